"""The command that reports on measured records; it works on files, needs no server and no adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from serve.cli.progress import progress
from serve.cli.running import AsJson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probe.bank.records import Records
    from probe.bank.report.section import Section

console = Console()


def report(
    out: Annotated[Path, typer.Option(help="Folder for report.md, report.html, report.json and the figures.")],
    records: Annotated[Path | None, typer.Option(help="Folder of records; none: those that are shipped.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the report on a bank from its records alone: tables, figures, and a verdict on every claim.

    Example: `mergeprobe bank report --out ./report`
    """
    # Imports pyarrow, which `--help` must not wait for.
    from probe.bank.record_files import SHIPPED_RECORDS, read_records
    from probe.bank.report.pages import verdicts, write_report

    sections = _sections(read_records(records or SHIPPED_RECORDS))
    paths = write_report(sections, out)
    if as_json:
        typer.echo(json.dumps(verdicts(sections), indent=2))
        return
    console.print(verdict_table(sections))
    console.print(f"{len(paths)} files in {out}; open {out / 'report.html'}.", highlight=False)


def _sections(records: Records) -> tuple[Section, ...]:
    from probe.bank.report import SECTIONS, report_on

    with progress() as show:
        return report_on(records, lambda done: show("sections", done, len(SECTIONS)))


def verdict_table(sections: Sequence[Section]) -> Table:
    """Return every verdict of a report as a table for the terminal."""
    from probe.bank.report.pages import in_words

    table = Table("claim", "verdict", "measured")
    for section in sections:
        for verdict in section.verdicts:
            table.add_row(f"{verdict.key}: {verdict.claim}", str(verdict.outcome), in_words(verdict.estimate))
    return table
