"""Every method of the bank trains, has the property that it is in the bank for, and depends on its seeds alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from probe.adapter_io import read_adapter
from probe.bank.build import write_adapter
from probe.bank.preferences import PreferenceError, rejected_answers
from probe.bank.tasks import TASKS
from probe.bank.training import BundlePlan, MethodInputs, TrainedAdapter, Training, train_adapter
from probe.bank.training.batches import ordered_batches
from probe.bank.training.input_moments import input_moments, quiet_directions
from probe.bank.training.methods import METHODS
from probe.bank.training.objectives import ObjectiveError, log_probabilities, preference_loss, preference_pairs
from probe.bank.training.settings import MethodName
from probe.bank.training.starts import SPARSE_SHARE, StartError
from probe.bank.training.trainer import rate_share
from probe.bank.training.wrapping import adapted_modules, base_in, wrapped_base
from probe.encoding import encode_row
from probe.factors import LoraUpdate, inner_product
from probe.reference import Reference
from probe.rows import Row
from probe.telemetry.bundle import read_bundle
from tests.probe.test_reference import write_character_base

SHORT = Training(4, "attention", 1e-2, 8, num_rows=16, num_epochs=2, batch_rows=4)
LEARNING = replace(SHORT, modules="attention+mlp", num_epochs=12, beta=5.0)
ROWS = TASKS["math"].generate("things", "train", 16, seed=1)
OTHERS = TASKS["safety"].generate("verbs", "calibration", 8, seed=2)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return Reference(write_character_base(tmp_path_factory.mktemp("base")))


def train(reference: Reference, training: Training = SHORT, a_seed: int = 4, **options: Any) -> TrainedAdapter:
    inputs = MethodInputs(rejected=rejected_answers(ROWS, seed=3), neighbours=OTHERS, norms=norms(reference, 0.5))
    options = {"inputs": inputs} | options
    return train_adapter(reference.model, reference.tokenizer, ROWS, training, data_seed=3, a_seed=a_seed, **options)


def norms(reference: Reference, norm: float) -> Mapping[str, float]:
    with wrapped_base(reference.model, LEARNING) as wrapped:
        return dict.fromkeys(adapted_modules(wrapped), norm)


def factors(trained: TrainedAdapter, side: str) -> dict[str, Tensor]:
    return {name: tensor.float() for name, tensor in trained.tensors.items() if f"lora_{side}" in name}


def assert_equal(first: TrainedAdapter, second: TrainedAdapter) -> None:
    assert first.losses == second.losses
    assert first.tensors.keys() == second.tensors.keys()
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)


def test_the_table_has_every_method() -> None:
    assert set(METHODS) == set(get_args(MethodName))


@pytest.mark.parametrize(
    ("method", "precision", "fall"),
    [
        # The random base cannot write a logit above 0.8, so no adapter can gain more nats than that on an answer token.
        ("sft", "float32", 0.25),
        ("sft", "bfloat16", 0.25),
        ("osrm", "float32", 0.25),
        ("flylora", "float32", 0.25),
        ("dpo", "float32", 0.4),
    ],
)
def test_training_lowers_the_loss(reference: Reference, method: MethodName, precision: Any, fall: float) -> None:
    """From the first epoch to the last, each of them four batches that hold every row once."""
    trained = train(reference, replace(LEARNING, method=method, precision=precision))
    assert trained.num_steps == len(trained.losses) == 48
    assert sum(trained.losses[:4]) / 4 - sum(trained.losses[-4:]) / 4 > fall


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seeds_give_the_same_adapter_whatever_the_global_state(
    reference: Reference, method: MethodName
) -> None:
    first = train(reference, replace(SHORT, method=method))
    torch.rand(7)
    assert_equal(first, train(reference, replace(SHORT, method=method)))


@pytest.mark.parametrize("method", METHODS)
def test_training_gives_the_base_back_as_it_was(reference: Reference, method: MethodName) -> None:
    before = {name: weight.clone() for name, weight in reference.model.named_parameters()}
    train(reference, replace(SHORT, method=method))
    after = dict(reference.model.named_parameters())
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(weight.requires_grad for weight in after.values())
    assert not reference.model.training
    assert reference.model.config.use_cache


def test_only_the_seed_of_a_decides_where_a_starts(reference: Reference) -> None:
    """At a rate of zero what training returns is its start."""
    still = replace(SHORT, learning_rate=0.0)
    starts = [factors(train(reference, still, a_seed), "A") for a_seed in (4, 4, 5)]
    assert all(torch.equal(starts[0][name], starts[1][name]) for name in starts[0])
    assert not any(torch.equal(starts[0][name], starts[2][name]) for name in starts[0])


def test_flylora_keeps_a_sparse_a_and_trains_b_alone(reference: Reference) -> None:
    training = replace(SHORT, method="flylora")
    start, end = train(reference, replace(training, learning_rate=0.0)), train(reference, training)
    for name, matrix in factors(end, "A").items():
        assert torch.equal(matrix, factors(start, "A")[name])
        assert (matrix != 0).sum(dim=1).tolist() == [round(SPARSE_SHARE * matrix.shape[1])] * 4
    assert all(float(matrix.abs().max()) > 0 for matrix in factors(end, "B").values())


def test_osrm_starts_where_the_other_tasks_have_least_energy(reference: Reference) -> None:
    start = factors(train(reference, replace(SHORT, method="osrm", learning_rate=0.0)), "A")
    drawn = factors(train(reference, replace(SHORT, learning_rate=0.0)), "A")
    with wrapped_base(reference.model, SHORT) as wrapped:
        moments = input_moments(wrapped.get_base_model(), reference.tokenizer, OTHERS, adapted_modules(wrapped))
    by_module = {name: moment for names, moment in moments.by_reader() for name in names}
    assert len(by_module) == len(start)
    for name, moment in by_module.items():
        key = f"base_model.model.{name}.lora_A.weight"
        torch.testing.assert_close(start[key] @ start[key].T, torch.eye(4), atol=0.02, rtol=0)
        least = torch.linalg.eigvalsh(moment.double())[:4].sum()
        assert energy(start[key], moment) < 0.02 * energy(drawn[key], moment)
        assert energy(start[key], moment) >= 0.99 * float(least)


def energy(rows: Tensor, moment: Tensor) -> float:
    """Return the energy that inputs have along orthonormal directions spanning `rows`."""
    basis = torch.linalg.qr(rows.T.double()).Q
    return float((basis.T @ moment.double() @ basis).trace())


def test_quiet_directions_are_the_axes_that_nothing_moves_along() -> None:
    found = quiet_directions(torch.diag(torch.tensor([5.0, 0.0, 9.0, 1.0])), 2)
    torch.testing.assert_close(found.abs(), torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]))


def test_moments_leave_padding_out(reference: Reference) -> None:
    """A row adds the same whether a longer one shares its batch or not."""
    short, long = Row("ab", "c", "forced"), Row("abcdefghijklmnop", "q", "forced")
    with wrapped_base(reference.model, SHORT) as wrapped:
        model, modules = wrapped.get_base_model(), adapted_modules(wrapped)
        apart = [input_moments(model, reference.tokenizer, [row], modules).by_reader() for row in (short, long)]
        together = input_moments(model, reference.tokenizer, [short, long], modules).by_reader()
        for (_, first), (_, second), (_, both) in zip(*apart, together, strict=True):
            torch.testing.assert_close(first + second, both, rtol=1e-4, atol=1e-4)


def test_preference_training_widens_the_margin_over_the_base(reference: Reference, tmp_path: Path) -> None:
    training = replace(LEARNING, method="dpo")
    rejected = rejected_answers(ROWS, seed=3)
    folder = write_adapter(tmp_path, training, train(reference, training))
    with reference._adapted(folder) as adapted:
        after = margins(adapted, reference, rejected)
    before = margins(reference.model, reference, rejected)
    assert float((after > before).float().mean()) > 0.8
    assert float((after - before).mean()) > 0.25


@torch.inference_mode()
def margins(model: Any, reference: Reference, rejected: tuple[str, ...]) -> Tensor:
    tokenizer = reference.tokenizer
    chosen = [encode_row(tokenizer, row) for row in ROWS]
    worse = [encode_row(tokenizer, replace(row, answer=text)) for row, text in zip(ROWS, rejected, strict=True)]
    pad = tokenizer.eos_token_id
    return log_probabilities(model, chosen, pad) - log_probabilities(model, worse, pad)


def test_at_the_start_the_preference_loss_is_ln_2_beside_the_cost_of_the_chosen_answers(reference: Reference) -> None:
    training, tokenizer, rows = replace(SHORT, method="dpo"), reference.tokenizer, ROWS[:4]
    inputs = MethodInputs(rejected=rejected_answers(ROWS, seed=3)[:4])
    pad = tokenizer.eos_token_id
    with wrapped_base(reference.model, training) as wrapped, torch.inference_mode():
        pairs = preference_pairs(wrapped, tokenizer, rows, inputs)
        loss = preference_loss(wrapped, pairs, pad, training)
        chosen = [pair.chosen for pair in pairs]
        each = log_probabilities(wrapped.get_base_model(), chosen, pad).tolist()
    cost = -sum(value / len(row.answer_ids) for value, row in zip(each, chosen, strict=True)) / len(chosen)
    assert float(loss) == pytest.approx(math.log(2) + cost, abs=1e-3)


def test_a_random_adapter_has_the_norms_that_it_was_given(reference: Reference, tmp_path: Path) -> None:
    training = replace(SHORT, method="random")
    trained = train(reference, training)
    assert (trained.num_steps, trained.num_tokens, trained.losses) == (0, 0, ())
    update = read_adapter(write_adapter(tmp_path, training, trained))
    for name, factor in update.factors.items():
        one = LoraUpdate({name: factor})
        assert inner_product(one, one) ** 0.5 == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize(
    ("method", "error", "message"),
    [
        ("osrm", StartError, "needs rows of other tasks"),
        ("random", StartError, "needs the norm of"),
        ("dpo", ObjectiveError, "one rejected answer for each of the 16 rows"),
    ],
)
def test_a_method_says_what_it_lacks(
    reference: Reference, method: MethodName, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train(reference, replace(SHORT, method=method), inputs=MethodInputs())


def test_checkpoints_are_recorded_at_the_planned_shares_with_the_facts_of_the_task(
    reference: Reference, tmp_path: Path
) -> None:
    training = replace(SHORT, num_epochs=10)
    plan = BundlePlan(tmp_path, "math", ROWS[:3])
    recorded = train(reference, training, bundle=plan)
    bundle = read_bundle(tmp_path)
    assert [(c.rho, c.step) for c in bundle.checkpoints] == [(0.02, 1), (0.05, 2), (0.10, 4)]
    assert bundle.record.losses.values == pytest.approx(recorded.losses[:4])
    assert bundle.calibration_rows() == ROWS[:3]
    facts = bundle.metadata()
    assert (facts.domain, facts.num_rows, facts.refusal_fraction, facts.num_steps) == ("math", 16, 0.0, 40)
    assert facts.response_tokens == sum(len(row.answer) + 1 for row in ROWS) / 16
    assert_equal(recorded, train(reference, training))


def test_a_half_precision_base_keeps_its_buffers_and_shares_nothing(reference: Reference) -> None:
    half = base_in(reference.model, "bfloat16")
    assert {weight.dtype for weight in half.parameters()} == {torch.bfloat16}
    assert {weight.dtype for weight in reference.model.parameters()} == {torch.float32}
    whole = dict(reference.model.named_buffers())
    assert whole
    for name, buffer in half.named_buffers():
        assert torch.equal(buffer, whole[name])
        assert buffer.data_ptr() != whole[name].data_ptr()


def test_factors_are_trained_in_float32_over_a_half_precision_base(reference: Reference) -> None:
    with wrapped_base(reference.model, replace(SHORT, precision="bfloat16")) as wrapped:
        modules = adapted_modules(wrapped).values()
        assert {factor.dtype for module in modules for factor in (module.A, module.B)} == {torch.float32}


def test_batches_hold_every_row_once_an_epoch_and_rows_of_like_length(reference: Reference) -> None:
    encoded = [encode_row(reference.tokenizer, row) for row in ROWS]
    batches = ordered_batches(encoded, SHORT, seed=0)
    assert len(batches) == 8
    for epoch in range(2):
        rows = [row for batch in batches[4 * epoch : 4 * epoch + 4] for row in batch]
        assert sorted(rows, key=repr) == sorted(encoded, key=repr)
    spans = sorted((min(r.num_tokens for r in b), max(r.num_tokens for r in b)) for b in batches[:4])
    assert all(first[1] <= second[0] for first, second in pairwise(spans))
    assert ordered_batches(encoded, SHORT, seed=0) == batches != ordered_batches(encoded, SHORT, seed=1)


def test_the_rate_rises_to_its_peak_and_falls_to_zero() -> None:
    shares = [rate_share(step, 100, 0.1) for step in range(101)]
    assert shares[0] == pytest.approx(0.1)
    assert shares[9] == shares[10] == max(shares) == 1.0
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert shares[100] == pytest.approx(0.0)


def test_a_rejected_answer_is_another_rows_answer_and_wrong() -> None:
    rejected = rejected_answers(ROWS, seed=0)
    assert set(rejected) <= {row.answer for row in ROWS}
    assert not any(text == row.answer for text, row in zip(rejected, ROWS, strict=True))
    assert rejected == rejected_answers(ROWS, seed=0) != rejected_answers(ROWS, seed=1)


def test_an_answer_that_passes_the_check_is_not_rejected() -> None:
    check = {"kind": "constraints", "num_words": 1}
    rows = [Row("p", "one", "generated", check), Row("q", "uno", "generated", check), Row("r", "two words", "forced")]
    assert rejected_answers(rows, seed=0)[:2] == ("two words", "two words")
    with pytest.raises(PreferenceError, match="every one of 2 answers is right"):
        rejected_answers(rows[:2], seed=0)
