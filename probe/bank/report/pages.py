"""The report as pages: Markdown with pictures beside it, one HTML page that holds them, and JSON."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.token import Token

from probe.bank.report.plots import draw
from probe.bank.report.section import Cell, Section, Table, escaped
from probe.bank.report.statistics import Estimate

TITLE = "MERGE-PEFT, measured"
_TEMPLATE = "page.html"
_UNBROKEN = re.compile(r"\[-?[\d.]+, -?[\d.]+\],?|\(no interval\),?|\bn = \d+|[<>] -?[\d.]+")


def write_report(sections: Sequence[Section], out: Path, title: str = TITLE) -> tuple[Path, ...]:
    """Write report.md, report.html, report.json and one PNG a figure; return what was written."""
    out.mkdir(parents=True, exist_ok=True)
    pictures = {
        picture_name(section, figure.key): draw(figure.chart) for section in sections for figure in section.figures
    }
    text = markdown(sections, title)
    contents = {
        "report.md": text.encode(),
        "report.html": html(sections, pictures, title).encode(),
        "report.json": json.dumps(as_json(sections, title), indent=1, allow_nan=False).encode(),
    }
    paths = []
    for name, content in (contents | pictures).items():
        paths.append(out / name)
        paths[-1].write_bytes(content)
    return tuple(paths)


def picture_name(section: Section, key: str) -> str:
    """Return the file name of a figure."""
    return f"{section.key}-{key}.png"


def markdown(sections: Sequence[Section], title: str = TITLE) -> str:
    """Return the whole report as Markdown."""
    return (
        "\n\n".join([f"# {title}", *(_section(number, section) for number, section in enumerate(sections, 1))]) + "\n"
    )


def html(sections: Sequence[Section], pictures: Mapping[str, bytes], title: str = TITLE) -> str:
    """Return one page that needs nothing else: pictures are data URIs, styles are inside."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parts = []
    for number, section in enumerate(sections, 1):
        tokens = parser.parse(_section(number, section))
        _embed(tokens, pictures)
        _keep_together(tokens)
        parts.append(
            {"key": section.key, "title": section.title, "body": parser.renderer.render(tokens, parser.options, {})}
        )
    folder = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=folder, autoescape=True, undefined=StrictUndefined)
    return environment.get_template(_TEMPLATE).render(title=title, sections=parts)


def _embed(tokens: Sequence[Token], pictures: Mapping[str, bytes]) -> None:
    for token in tokens:
        for child in token.children or ():
            if child.type == "image":
                picture = base64.b64encode(pictures[str(child.attrGet("src"))]).decode()
                child.attrSet("src", f"data:image/png;base64,{picture}")


def _keep_together(tokens: Sequence[Token]) -> None:
    """Let no line end within an interval or a count: cells of estimates are narrow."""
    for token in tokens:
        for child in token.children or ():
            if child.type == "text":
                child.content = _UNBROKEN.sub(lambda found: found[0].replace(" ", "\u00a0"), child.content)


def _section(number: int, section: Section) -> str:
    parts = [f"## {number}. {section.title}", *section.text]
    parts += [f"> Too few records: {escaped(gap)}" for gap in section.gaps]
    parts += [_table(table) for table in section.tables]
    parts += [
        f"![{escaped(one.caption)}]({picture_name(section, one.key)})\n\n*{escaped(one.caption)}*"
        for one in section.figures
    ]
    return "\n\n".join(parts)


def _table(table: Table) -> str:
    units = sorted({cell.unit for row in table.rows for cell in row if isinstance(cell, Estimate)})
    shared = units[0] if len(units) == 1 else None
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.columns)
    rules = ["---:" if _is_numeric(column) else "---" for column in columns]
    lines = ["| " + " | ".join(cells) + " |" for cells in (map(escaped, table.columns), rules)]
    lines += ["| " + " | ".join(escaped(in_words(cell, shared)) for cell in row) + " |" for row in table.rows]
    notes = [note for note in (f"n counts {shared}." if shared else "", escaped(table.note)) if note]
    return "\n\n".join([f"### {escaped(table.title)}", "\n".join(lines), *([" ".join(notes)] if notes else [])])


def _is_numeric(column: Sequence[Cell]) -> bool:
    """Say whether a column holds plain numbers, which are read digit under digit."""
    return all(cell is None or isinstance(cell, int | float) for cell in column)


def in_words(cell: Cell, shared_unit: str | None = None) -> str:
    """Return a cell as text: an estimate with its interval and its n, and the unit unless all share one."""
    if isinstance(cell, Estimate):
        count = f"n = {cell.n}" if cell.unit == shared_unit else f"n = {cell.n} {cell.unit}"
        if math.isnan(cell.value):
            return f"undefined, {count}"
        interval = f"[{cell.low:z.2f}, {cell.high:z.2f}]" if cell.is_bounded else "(no interval)"
        return f"{cell.value:z.2f} {interval}, {count}"
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "-"
    return f"{cell:z.3f}" if isinstance(cell, float) else str(cell)


def as_json(sections: Sequence[Section], title: str = TITLE) -> dict[str, Any]:
    """Return everything as plain data; NaN and infinity become null."""
    return {"title": title, "sections": [_plain(section) for section in sections], "verdicts": verdicts(sections)}


def verdicts(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """Return every verdict as plain data, with its outcome and rule."""
    return [
        _plain(verdict) | {"section": section.key, "outcome": str(verdict.outcome), "rule": verdict.rule}
        for section in sections
        for verdict in section.verdicts
    ]


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
