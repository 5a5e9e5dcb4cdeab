"""Joint losses are those of a model whose weights hold both updates; each direction is its own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from probe.calibration import CalibrationError, joint_losses
from probe.factors import LoraUpdate, scaled
from probe.profiles import CrossTask, JointLoss, Shift, profile_of
from probe.rows import Row
from probe.signals import PAIR_SIGNALS, Pair, measure_pair
from tests import tiny
from tests.probe.calibration_oracles import num_hooks
from tests.probe.test_reference import write_character_base

ROWS = tuple(
    Row(f"<|im_start|>{letter * size}<|im_end|>", answer, "forced")
    for letter, size, answer in (("a", 3, "no"), ("b", 9, "yes yes"), ("c", 5, "b"))
)
SHAPES = {f"model.layers.{layer}.self_attn.{kind}": (32, 32) for layer in range(2) for kind in ("q_proj", "o_proj")}
OWN, OTHER = (scaled(tiny.random_update(seed, 3, SHAPES), 0.05) for seed in (1, 2))


@pytest.fixture(scope="module")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A tiny model with a tokenizer."""
    folder = write_character_base(tmp_path_factory.mktemp("speaking"))
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def loss_with(model: Any, tokenizer: Any, *updates: tuple[float, LoraUpdate]) -> float:
    """Row by row, through dense weights."""
    dense = copy.deepcopy(model)
    for share, update in updates:
        for name, factor in update.factors.items():
            dense.get_submodule(name).weight.data += share * (factor.B @ factor.A)
    losses = []
    for row in ROWS:
        prompt = tokenizer(row.prompt, add_special_tokens=False).input_ids
        answer = [*tokenizer(row.answer, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        with torch.no_grad():
            logits = dense(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        losses.append(float(torch.nn.functional.cross_entropy(logits.double(), torch.tensor(answer))))
    return sum(losses) / len(losses)


def test_losses_are_those_of_weights_that_hold_both_updates(speaking: tuple[Any, Any]) -> None:
    found = joint_losses(*speaking, ROWS, OWN, {"other": OTHER, "own": OWN})
    expected = JointLoss(
        of_base=loss_with(*speaking),
        of_own=loss_with(*speaking, (1, OWN)),
        of_sum=loss_with(*speaking, (1, OWN), (1, OTHER)),
        of_mean=loss_with(*speaking, (0.5, OWN), (0.5, OTHER)),
        num_rows=len(ROWS),
    )
    for name in ("of_base", "of_own", "of_sum", "of_mean", "num_rows"):
        assert getattr(found["other"], name) == pytest.approx(getattr(expected, name), rel=1e-4)
    assert found["own"].of_mean == pytest.approx(found["own"].of_own, rel=1e-5)
    assert found["own"].of_sum == pytest.approx(loss_with(*speaking, (2, OWN)), rel=1e-4)
    assert num_hooks(speaking[0]) == 0


def test_losses_are_measured_on_a_seeded_draw_of_rows(speaking: tuple[Any, Any]) -> None:
    def measure(seed: int) -> JointLoss:
        return joint_losses(*speaking, ROWS, OWN, {0: OTHER}, num_rows=1, seed=seed)[0]

    assert measure(0) == measure(0)
    assert len({measure(seed).of_base for seed in range(10)}) == len(ROWS)
    assert measure(0).num_rows == 1


def test_an_update_of_another_model_is_refused(speaking: tuple[Any, Any]) -> None:
    stranger = tiny.random_update(1, 3, {"model.layers.9.self_attn.q_proj": (32, 32)})
    with pytest.raises(CalibrationError, match="no linear module"):
        joint_losses(*speaking, ROWS, OWN, {0: stranger})
    with pytest.raises(CalibrationError, match="no calibration rows"):
        joint_losses(*speaking, [], OWN, {0: OTHER})
    assert num_hooks(speaking[0]) == 0


@pytest.mark.parametrize(
    ("loss", "kept_sum", "kept_mean", "added_sum", "added_mean"),
    [
        (JointLoss(3.0, 1.0, 1.5, 2.5, 8), 0.75, 0.25, 0.5, 1.5),
        (JointLoss(3.0, 1.0, 9.0, 0.5, 8), -2.0, 1.25, 8.0, -0.5),
        (JointLoss(3.0, 3.0, 9.0, 2.0, 8), None, None, 6.0, -1.0),
        (JointLoss(3.0, 3.5, 9.0, 3.5, 8), None, None, 5.5, 0.0),
    ],
)
def test_a_share_of_a_gain_is_kept_where_there_is_one(
    loss: JointLoss, kept_sum: float | None, kept_mean: float | None, added_sum: float, added_mean: float
) -> None:
    pair = Pair(profile_of(OWN), profile_of(OTHER), CrossTask(Shift({}, {}, 8), loss))
    expected = {
        "loss_kept_sum": kept_sum,
        "loss_kept_mean": kept_mean,
        "loss_added_sum": added_sum,
        "loss_added_mean": added_mean,
    }
    for key, value in expected.items():
        measured = measure_pair(PAIR_SIGNALS[key], pair)
        assert measured.values.get("") == value
        assert (measured.missing is None) == (value is not None)


def test_a_pair_that_was_not_run_through_the_base_has_none() -> None:
    measured = measure_pair(PAIR_SIGNALS["loss_kept_sum"], Pair(profile_of(OWN), profile_of(OTHER)))
    assert measured.missing is not None
    assert "forward passes of the partner's rows" in measured.missing
