"""The command that shows what a bank's adapters are asked: domains, their mixes, samples of rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from probe.bank.tasks import Task

console = Console()

# Counting on costs time, and nobody trains on more rows of one mix here.
_COUNT_UP_TO = 2000


class SplitName(StrEnum):
    """Which part of the problems."""

    train = "train"
    calibration = "calibration"
    evaluation = "evaluation"


def tasks(
    show: Annotated[str | None, typer.Option(help="Print rows of this domain instead of the list.")] = None,
    mix: Annotated[str | None, typer.Option(help="With --show: which mix; none: the domain's first.")] = None,
    count: Annotated[int, typer.Option(min=1, help="With --show: how many rows.")] = 5,
    split: Annotated[SplitName, typer.Option(help="With --show: which part of the problems.")] = SplitName.train,
    seed: Annotated[int, typer.Option(help="With --show: the same seed gives the same rows.")] = 0,
    jsonl: Annotated[Path | None, typer.Option(help="A domain of your own: one question a line.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")] = False,
) -> None:
    """List the domains and mixes with the rows each has, or show rows of one.

    A file of your own has the fields that `--show DOMAIN --json` prints: question, answer, scorer, check, max_tokens,
    and template for the kind of question. Its domain is its name without `.jsonl`. A package brings a domain by an
    entry point of the group `mergeprobe.tasks`.

    Example: `mergeprobe bank tasks --show math --mix lists --count 3`
    """
    from probe.bank.tasks import TaskError  # imports the scorers, which `--help` must not wait for
    from probe.bank.tasks import tasks as all_tasks

    known = _with_file(all_tasks(), jsonl)
    if show is None:
        _list(known, as_json)
        return
    if show not in known:
        raise TaskError(f"there is no domain {show!r}; there are {', '.join(known)}")
    _show(known[show], mix or next(iter(known[show].mixes)), split, count, seed, as_json)


def _with_file(known: Mapping[str, Task], jsonl: Path | None) -> Mapping[str, Task]:
    from probe.bank.tasks import TaskError, read_task

    if jsonl is None:
        return known
    own = read_task(jsonl)
    if own.domain in known:
        raise TaskError(f"{jsonl} gives the domain '{own.domain}', which exists already; rename the file")
    return {**known, own.domain: own}


def _list(known: Mapping[str, Task], as_json: bool) -> None:
    if as_json:
        for fields in _mix_fields(known):
            typer.echo(json.dumps(fields))
        return
    table = Table("domain", "mix", "difficulty", "train", "calibration", "evaluation", "what is asked")
    for fields in _mix_fields(known):
        rows = (_up_to(fields["rows"][split.value]) if fields["rows"] else "-" for split in SplitName)
        table.add_row(fields["domain"], fields["mix"], fields["difficulty"], *rows, escape(fields["description"]))
    console.print(table)
    console.print(f"Rows are different questions, counted up to {_COUNT_UP_TO}.")


def _mix_fields(known: Mapping[str, Task]) -> Iterator[dict[str, Any]]:
    for task in known.values():
        for name, mix in task.mixes.items():
            fields = {"domain": task.domain, "mix": name, "difficulty": mix.difficulty}
            yield fields | _rows_and_description(task, name, mix.description)


def _rows_and_description(task: Task, mix: str, description: str) -> dict[str, Any]:
    """Return the rows by split; a mix that lacks its data package says so, and hides no other."""
    from probe.bank.tasks import TaskError

    try:
        return {"rows": dict(task.available(mix, _COUNT_UP_TO)), "description": description}
    except TaskError as error:
        return {"rows": None, "description": str(error)}


def _up_to(count: int) -> str:
    return f"{count}+" if count == _COUNT_UP_TO else str(count)


def _show(task: Task, mix: str, split: SplitName, count: int, seed: int, as_json: bool) -> None:
    from probe.bank.tasks import fields_of

    samples = [fields_of(row) for row in task.generate(mix, split.value, count, seed)]
    if as_json:
        for fields in samples:
            typer.echo(json.dumps(fields, ensure_ascii=False))
        return
    console.print(f"{task.domain}, mix {mix}, {split.value}. {escape(task.description)}")
    table = Table("question", "answer", "scored by")
    for fields in samples:
        table.add_row(escape(fields["question"]), escape(fields["answer"]), escape(_scored_by(fields)))
    console.print(table)


def _scored_by(fields: Mapping[str, Any]) -> str:
    if fields["scorer"] == "forced":
        return "exact match"
    if fields["scorer"] == "python":
        return f"python: {len(fields['check']['cases'])} cases"
    return f"{fields['scorer']}: " + ", ".join(f"{name} = {value}" for name, value in fields["check"].items())
