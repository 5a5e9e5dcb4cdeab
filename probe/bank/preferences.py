"""Preference pairs: for each row, an answer of a weaker model beside the reference answer."""

from __future__ import annotations

import random
from collections.abc import Sequence

from probe.records import MergeProbeError
from probe.rows import Answer, Row
from probe.scoring import grade_all


class PreferenceError(MergeProbeError):
    """A row has no wrong answer among the answers of the other rows."""


def rejected_answers(rows: Sequence[Row], seed: int) -> tuple[str, ...]:
    """Return a wrong answer to each row, in the rows' order: the answer of another row, so of the same form.

    It stands for a weak model, which knows what an answer looks like but not which one is right.

    Parameters
    ----------
    rows
        Of one mix; those that are checked, not compared, are checked here too.
    seed
        Of the draw.

    Raises
    ------
    PreferenceError
        All other answers are right as well.
    """
    rng = random.Random(seed)  # noqa: S311 - data, not keys
    answers = sorted({row.answer for row in rows})
    return tuple(_wrong_answer(row, rng.sample(answers, len(answers))) for row in rows)


def _wrong_answer(row: Row, candidates: Sequence[str]) -> str:
    for text in candidates:
        if text != row.answer and not _is_right(row, text):
            return text
    raise PreferenceError(
        f"every one of {len(candidates)} answers is right for {row.prompt!r}; use a mix whose answers differ."
    )


def _is_right(row: Row, text: str) -> bool:
    if row.check is None:
        return False
    (outcome,) = grade_all([row], [Answer(text=text)])
    return outcome.score == 1.0
