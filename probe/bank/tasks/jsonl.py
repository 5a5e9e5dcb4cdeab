"""A domain of one's own as a JSONL file: one question with its answer and scorer a line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probe.bank.tasks.problem import Mix, Problem, Task, TaskError, Template, question_of
from probe.rows import Row, RowError, json_object, max_tokens_of
from probe.scoring import CHECKS, ScoringError

SCORERS = ("forced", *CHECKS)
_FIELDS = ("question", "answer", "scorer", "check", "max_tokens", "template")
_ONLY_TEMPLATE = "rows"
_EVERY_TEMPLATE = "all"


class TaskFileError(TaskError):
    """A file of problems cannot be read; the message names file, line and field."""


@dataclass(frozen=True, slots=True)
class _Line:
    """A problem with the place it was read from."""

    where: str
    template: str
    problem: Problem


def read_task(path: Path, domain: str | None = None) -> Task:
    """Read a domain from a JSONL file; blank lines are skipped.

    Each line is an object with these fields::

        question    what the user says
        answer      the reference answer; it must pass its own scorer
        scorer      "forced" (the answer is one fixed text), or a check: "refusal", "constraints" or "python"
        check       the check's arguments, such as {"expected": true}; not with "forced"
        max_tokens  longest generated answer in tokens, 16 unless told
        template    kind of question; each kind becomes a mix, besides the mix "all"

    The question, without its case and spacing, decides the split: a paraphrase counts as another question.

    Parameters
    ----------
    path
        UTF-8 file.
    domain
        Name of the domain; none is the file's name without its ending.

    Raises
    ------
    TaskFileError
        Names the file, the line and the field that is wrong.
    """
    lines = _read(path)
    _refuse_repeats(lines)
    _grade(lines)
    counts = Counter(line.template for line in lines)
    return Task(
        domain=domain or path.stem,
        description=f"{len(lines)} problems from {path.name}.",
        templates={name: _template([line.problem for line in lines if line.template == name]) for name in counts},
        mixes=_mixes(counts),
    )


def fields_of(row: Row) -> dict[str, Any]:
    """Return `row` as the fields of a line that `read_task` reads."""
    fields: dict[str, Any] = {"question": question_of(row.prompt), "answer": row.answer, "scorer": "forced"}
    if row.check is not None:
        check = {name: value for name, value in row.check.items() if name != "kind"}
        fields |= {"scorer": row.check["kind"], "check": check, "max_tokens": row.max_tokens}
    return fields


def _template(problems: Sequence[Problem]) -> Template:
    return lambda rng: rng.choice(problems)


def _mixes(counts: Mapping[str, int]) -> dict[str, Mix]:
    total = sum(counts.values())
    shares = {name: count / total for name, count in counts.items()}
    mixes = {_EVERY_TEMPLATE: Mix(shares, description="All problems.")}
    if len(counts) > 1:
        mixes |= {name: Mix({name: 1.0}, description=f"Problems of kind '{name}'.") for name in counts}
    return mixes


def _read(path: Path) -> list[_Line]:
    try:
        texts = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskFileError(f"{path} cannot be read as UTF-8 JSONL: {error}") from error
    try:
        lines = [_parse(text, f"{path} line {number}") for number, text in enumerate(texts, start=1) if text.strip()]
    except RowError as error:
        raise TaskFileError(str(error)) from error
    if not lines:
        raise TaskFileError(f"{path} holds no problem; write one JSON object a line")
    return lines


def _parse(text: str, where: str) -> _Line:
    fields = json_object(text, where)
    unknown = sorted(set(fields) - set(_FIELDS))
    if unknown:
        raise TaskFileError(f"{where}: unknown field '{unknown[0]}'; the fields are {', '.join(_FIELDS)}")
    question = _text(fields, "question", where)
    problem = Problem(
        content=" ".join(question.casefold().split()),
        question=question,
        answer=_text(fields, "answer", where),
        check=_check(fields, where),
        max_tokens=max_tokens_of(fields, where),
    )
    return _Line(where, _template_name(fields, where), problem)


def _text(fields: Mapping[str, Any], name: str, where: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value.strip():
        raise TaskFileError(f"{where}: field '{name}' must be a text that is not empty, saw {value!r}")
    return value.strip()


def _template_name(fields: Mapping[str, Any], where: str) -> str:
    name = _text(fields, "template", where) if "template" in fields else _ONLY_TEMPLATE
    if name == _EVERY_TEMPLATE:
        raise TaskFileError(f"{where}: field 'template' may not be '{name}', which is the mix of all; rename it")
    return name


def _check(fields: Mapping[str, Any], where: str) -> Mapping[str, Any] | None:
    scorer, arguments = fields.get("scorer"), fields.get("check")
    if scorer not in SCORERS:
        raise TaskFileError(f"{where}: field 'scorer' must be one of {', '.join(SCORERS)}, saw {scorer!r}")
    if scorer == "forced":
        if arguments is not None:
            raise TaskFileError(f"{where}: field 'check' has no meaning with scorer 'forced'; remove it")
        return None
    if not isinstance(arguments, dict) or "kind" in arguments:
        raise TaskFileError(
            f"{where}: field 'check' must be an object with the arguments of scorer '{scorer}', saw {arguments!r}"
        )
    return {"kind": scorer, **arguments}


def _refuse_repeats(lines: Sequence[_Line]) -> None:
    first: dict[str, _Line] = {}
    for line in lines:
        earlier = first.setdefault(line.problem.content, line)
        if earlier is not line:
            raise TaskFileError(f"{line.where}: field 'question' repeats that of {earlier.where}; remove one of them")


def _grade(lines: Sequence[_Line]) -> None:
    """Refuse a check that is malformed or that its own reference answer fails."""
    for kind, check in CHECKS.items():
        mine = [line for line in lines if line.problem.check is not None and line.problem.check["kind"] == kind]
        try:
            scores = check([line.problem.answer for line in mine], [line.problem.check or {} for line in mine])
        except ScoringError:
            _name_malformed(mine)
            raise
        for line, score in zip(mine, scores, strict=True):
            if score != 1.0:
                raise TaskFileError(
                    f"{line.where}: field 'answer' {line.problem.answer!r} scores {score:g} under its own check "
                    f"'{kind}'; correct the answer or the check"
                )


def _name_malformed(lines: Sequence[_Line]) -> None:
    """Check one line after the other: slow, but the error of a batch does not say whose it is."""
    for line in lines:
        check = line.problem.check or {}
        try:
            CHECKS[check["kind"]]([line.problem.answer], [check])
        except ScoringError as error:
            raise TaskFileError(f"{line.where}: field 'check': {error}") from error
