"""Scoring: one table of checks, and the one way from an engine's answer to an outcome.

A new check is one file, one row of `CHECKS` and one row of its contract test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from probe.rows import Answer, Outcome, Row
from probe.scoring.constraints import check_constraints
from probe.scoring.errors import ScoringError
from probe.scoring.python import check_python
from probe.scoring.refusal import check_refusal

__all__ = ["CHECKS", "Check", "ScoringError", "grade", "grade_all"]

#: Texts and their checks, in the same order -> scores in [0, 1]. Many at once, because a check
#: may start a process.
Check = Callable[[Sequence[str], Sequence[Mapping[str, Any]]], list[float]]

CHECKS: Mapping[str, Check] = {
    "refusal": check_refusal,
    "constraints": check_constraints,
    "python": check_python,
}


def grade(row: Row, answer: Answer) -> Outcome:
    """Grade one answer; `grade_all` grades many with one process for all executed answers."""
    return grade_all((row,), (answer,))[0]


def grade_all(rows: Sequence[Row], answers: Sequence[Answer]) -> tuple[Outcome, ...]:
    """Grade `answers` to `rows`, in the same order.

    Raises
    ------
    ScoringError
        The counts differ, an answer lacks what its row's scorer reads, or a check is unknown.
    """
    if len(rows) != len(answers):
        raise ScoringError(f"{len(rows)} rows need as many answers, saw {len(answers)}")
    outcomes: dict[int, Outcome] = {}
    groups: dict[str, list[int]] = {}
    for index, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        if row.scorer == "forced":
            outcomes[index] = _forced(answer)
        else:
            groups.setdefault(_kind(row), []).append(index)
    for kind, indices in groups.items():
        texts = [_text(answers[index]) for index in indices]
        scores = CHECKS[kind](texts, [rows[index].check or {} for index in indices])
        for index, score in zip(indices, scores, strict=True):
            outcomes[index] = Outcome(score, answers[index].log_likelihood)
    return tuple(outcomes[index] for index in range(len(rows)))


def _forced(answer: Answer) -> Outcome:
    if answer.is_argmax is None:
        raise ScoringError(f"a forced row needs an answer with is_argmax, saw {answer}")
    return Outcome(float(answer.is_argmax), answer.log_likelihood)


def _kind(row: Row) -> str:
    kind = (row.check or {}).get("kind")
    if kind not in CHECKS:
        raise ScoringError(f"unknown check kind {kind!r}; expected one of {', '.join(CHECKS)}")
    return str(kind)


def _text(answer: Answer) -> str:
    if answer.text is None:
        raise ScoringError(f"a generated row needs an answer with text, saw {answer}")
    return answer.text
