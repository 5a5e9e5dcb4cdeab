"""The evaluator answers as the reference does, and leaves the base model as it was."""

# ruff: noqa: F811 - fixtures of another module are named as it names them

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from probe.adapter_io import read_adapter
from probe.bank.measuring import Answered, Evaluator
from probe.calibration.errors import CalibrationError
from probe.factors import LoraUpdate
from probe.reference import Reference
from probe.rows import Row
from probe.scoring import grade_all
from tests.probe.test_reference import LESSONS, UNSEEN, adapter, reference  # noqa: F401 - fixtures
from tests.tiny import random_update

SHORT = {"kind": "constraints", "max_words": 1}
ANSWERS_A = {"kind": "constraints", "contains": "a"}


def decoded(row: Row, max_tokens: int, answer: str | None = None) -> Row:
    check = SHORT if max_tokens % 2 else ANSWERS_A
    return Row(row.prompt, answer or row.answer, "generated", check, max_tokens)


# Answers that are right, wrong from the first token, wrong later, too short, and longer than allowed.
ROWS = (
    *LESSONS,
    *(decoded(row, 2 + i) for i, row in enumerate(LESSONS)),
    *(decoded(row, 9, row.answer[:-1] + "zz") for row in LESSONS),
    *(decoded(row, 1) for row in LESSONS),
    *UNSEEN,
    *(decoded(row, 12, "no way") for row in UNSEEN),
)


@pytest.mark.parametrize("is_adapted", [False, True])
def test_it_answers_as_the_reference_does(reference: Reference, adapter: Path, is_adapted: bool) -> None:
    evaluator = Evaluator(reference)
    folder = adapter if is_adapted else None
    wanted = [outcome.score for outcome in grade_all(ROWS, reference.answers(ROWS, folder))]
    with evaluator.fused(read_adapter(adapter) if is_adapted else LoraUpdate({})):
        answered = evaluator.ask(ROWS)
    assert list(answered.scores) == wanted
    assert len(set(wanted[len(LESSONS) :])) == 2
    likelihoods = [a.log_likelihood for a in reference.answers([forced_like(row) for row in ROWS], folder)]
    assert answered.log_likelihoods == pytest.approx(likelihoods, abs=1e-5)


def forced_like(row: Row) -> Row:
    return Row(row.prompt, row.answer, "forced")


@pytest.mark.parametrize("is_adapted", [False, True])
def test_decoding_says_the_same_words(
    reference: Reference,
    adapter: Path,
    is_adapted: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [row for row in ROWS if row.scorer == "generated"]
    wanted = [answer.text for answer in reference.answers(rows, adapter if is_adapted else None)]
    seen: list[str | None] = []

    def keep(_rows: object, answers: list[object]) -> tuple[object, ...]:
        seen.extend(answer.text for answer in answers)  # type: ignore[attr-defined]
        return grade_all(rows, answers)  # type: ignore[arg-type]

    monkeypatch.setattr("probe.bank.measuring.grade_all", keep)
    evaluator = Evaluator(reference)
    with evaluator.fused(read_adapter(adapter) if is_adapted else LoraUpdate({})):
        evaluator.ask(rows)
    assert seen == wanted
    assert len({len(text or "") for text in wanted}) >= 3


def test_the_weights_come_back_bit_for_bit_whatever_happens(reference: Reference, adapter: Path) -> None:
    evaluator = Evaluator(reference)
    before = {name: tensor.clone() for name, tensor in reference.model.state_dict().items()}
    seen = []

    def fail_inside() -> None:
        with evaluator.fused(read_adapter(adapter)):
            seen.extend(torch.equal(t, before[name]) for name, t in reference.model.state_dict().items())
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail_inside()
    assert not all(seen)
    assert all(torch.equal(tensor, before[name]) for name, tensor in reference.model.state_dict().items())


def test_an_update_that_does_not_fit_changes_nothing(reference: Reference) -> None:
    evaluator = Evaluator(reference)
    before = evaluator.ask(ROWS)
    # Its attention fits this base, its wider MLP does not.
    with pytest.raises(CalibrationError, match="mlp"), evaluator.fused(random_update(0)):
        pass
    assert evaluator.ask(ROWS) == before


def test_no_rows_get_no_answers(reference: Reference) -> None:
    assert Evaluator(reference).ask([]) == Answered((), ())


def test_answers_add_up() -> None:
    assert Answered((1.0,), (-0.5,)) + Answered((0.0,), (-2.0,)) == Answered((1.0, 0.0), (-0.5, -2.0))
