"""Rows: one task example each, how they are stored, and what an engine answers to them."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from probe.records import MergeProbeError
from probe.replacement import replaced_file

CALIBRATION_FILE = "calibration.jsonl"
"""Where an adapter's folder, or a bundle, keeps its calibration rows."""

Scorer = Literal["forced", "generated"]
SCORERS: tuple[Scorer, ...] = ("forced", "generated")


class RowError(MergeProbeError):
    """A row cannot be read, or says two things at once."""


@dataclass(frozen=True, slots=True)
class Row:
    """One evaluation, calibration or training example.

    Parameters
    ----------
    prompt
        Raw text with chat markup, exactly what the tokenizer reads (no special tokens are added).
    answer
        Reference answer without the end token.
    scorer
        ``forced`` compares the answer token by token in one prefill; ``generated`` decodes
        greedily and asks `check`.
    check
        For generated rows only: ``{"kind": ..., **arguments}``, a row of `probe.scoring.CHECKS`.
    max_tokens
        Longest generated answer in tokens, at least 1. Forced rows ignore it.
    """

    prompt: str
    answer: str
    scorer: Scorer
    check: Mapping[str, Any] | None = None
    max_tokens: int = 16


@dataclass(frozen=True, slots=True)
class Answer:
    """What an engine says to a row, before grading.

    Parameters
    ----------
    is_argmax
        Forced rows: every answer token and the end token is the most likely one.
    log_likelihood
        Forced rows: mean natural log-probability of a token of the answer, end token included.
    text
        Generated rows: the greedy answer without its end token.
    """

    is_argmax: bool | None = None
    log_likelihood: float | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A graded answer: `score` in [0, 1], and its mean log-likelihood in nats where measured."""

    score: float
    log_likelihood: float | None = None


def read_rows(path: str | os.PathLike[str], max_rows: int | None = None) -> tuple[Row, ...]:
    """Read rows from a JSONL file; blank lines are skipped.

    Parameters
    ----------
    path
        UTF-8 file with one JSON object a line.
    max_rows
        Refuse a file with more rows than this, so that an upload cannot fill the memory.

    Raises
    ------
    RowError
        Names the file, the line and the field that is wrong.
    """
    rows: list[Row] = []
    try:
        with Path(path).open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                if max_rows is not None and len(rows) == max_rows:
                    raise RowError(f"{path} line {number}: more than {max_rows} rows; shorten it")
                rows.append(_parse(line, f"{path} line {number}"))
    except (OSError, UnicodeDecodeError) as error:
        raise RowError(f"{path} cannot be read as UTF-8 JSONL: {error}") from error
    return tuple(rows)


def write_rows(path: str | os.PathLike[str], rows: Iterable[Row]) -> None:
    """Write rows as JSONL, fields at their default left out; `read_rows` gives them back."""
    with Path(path).open("w", encoding="utf-8") as out:
        out.writelines(map(_line, rows))


def first_rows(path: Path, count: int, folder: Path) -> Path:
    """Return a file of the first rows of another one, named by what is in it; it appears once, by one rename.

    Raises
    ------
    RowError
        See `read_rows`.
    """
    rows = read_rows(path)[:count]
    digest = hashlib.sha256("".join(map(_line, rows)).encode()).hexdigest()
    first = folder / f"rows-{digest[:32]}.jsonl"
    if not first.exists():
        with replaced_file(first) as partial:
            write_rows(partial, rows)
    return first


def drawn_rows(rows: Sequence[Row], count: int, seed: int) -> list[Row]:
    """Return `count` rows drawn without replacement, in their order; all of them where there are no more."""
    drawn = random.Random(seed).sample(range(len(rows)), min(count, len(rows)))  # noqa: S311 - a draw, not a key
    return [rows[index] for index in sorted(drawn)]


def split_rows(rows: Sequence[Row]) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Split evaluation rows into disjoint gate rows (even positions) and report rows (odd).

    The gate decides whether a merge is served, the report says how good it is; a row that did both would flatter the
    merge that was chosen on it. So of rows with the same prompt only the first counts.
    """
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(row.prompt, row)
    distinct = tuple(first.values())
    return distinct[0::2], distinct[1::2]


def _line(row: Row) -> str:
    return json.dumps(_fields(row), ensure_ascii=False) + "\n"


def _fields(row: Row) -> dict[str, Any]:
    fields: dict[str, Any] = {"prompt": row.prompt, "answer": row.answer, "scorer": row.scorer}
    if row.scorer == "generated":
        fields["check"] = dict(row.check or {})
        fields["max_tokens"] = row.max_tokens
    return fields


def json_object(line: str, where: str) -> dict[str, Any]:
    """Return the JSON object on a line.

    Raises
    ------
    RowError
        The line is something else; `where` names its file and number.
    """
    try:
        fields = json.loads(line)
    except json.JSONDecodeError as error:
        raise RowError(f"{where}: not JSON ({error.msg}); write one JSON object a line") from error
    if not isinstance(fields, dict):
        raise RowError(f"{where}: expected a JSON object, saw {type(fields).__name__}")
    return fields


def _parse(line: str, where: str) -> Row:
    fields = json_object(line, where)
    unknown = sorted(set(fields) - {"prompt", "answer", "scorer", "check", "max_tokens"})
    if unknown:
        raise RowError(f"{where}: unknown field '{unknown[0]}'; remove or rename it")
    row = Row(
        prompt=_text(fields, "prompt", where),
        answer=_text(fields, "answer", where),
        scorer=_scorer(fields, where),
        check=_check(fields, where),
        max_tokens=max_tokens_of(fields, where),
    )
    if (row.scorer == "generated") != (row.check is not None):
        raise RowError(
            f"{where}: field 'check' is needed for scorer 'generated' and only there; "
            f"saw scorer '{row.scorer}' with check {row.check!r}"
        )
    return row


def _text(fields: Mapping[str, Any], name: str, where: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise RowError(f"{where}: field '{name}' must be a text that is not empty, saw {value!r}")
    return value


def _scorer(fields: Mapping[str, Any], where: str) -> Scorer:
    value = fields.get("scorer")
    for scorer in SCORERS:
        if value == scorer:
            return scorer
    raise RowError(f"{where}: field 'scorer' must be one of {', '.join(SCORERS)}, saw {value!r}")


def _check(fields: Mapping[str, Any], where: str) -> Mapping[str, Any] | None:
    value = fields.get("check")
    if value is None or (isinstance(value, dict) and isinstance(value.get("kind"), str)):
        return value
    raise RowError(f"{where}: field 'check' must be an object with a text 'kind', saw {value!r}")


def max_tokens_of(fields: Mapping[str, Any], where: str) -> int:
    """Return field ``max_tokens``, 16 unless told.

    Raises
    ------
    RowError
        It is no whole number of at least 1; `where` names the file and line.
    """
    value = fields.get("max_tokens", 16)
    # bool is an int to Python, but no number of tokens.
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise RowError(f"{where}: field 'max_tokens' must be a whole number >= 1, saw {value!r}")
    return value
