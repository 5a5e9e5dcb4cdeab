"""Learned weights: the optimiser on losses known by hand, and the loss on a tiny random model."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from probe.encoding import encode_row
from probe.factors import LoraFactor, LoraUpdate
from probe.layers import BANDS
from probe.operators import MergeError, Recipe, merge
from probe.operators.learning import answer_loss, learn_weights
from probe.reference import BATCH_TOKENS, answer_logits, batches_by_length
from probe.rows import Row
from tests import tiny
from tests.probe.members import dense

MODULES = {name: tiny.SHAPES[name] for name in tiny.SHAPES if name.endswith(("q_proj", "down_proj"))}


class Letters:
    """A tokenizer whose tokens are bytes, cut to the tiny vocabulary."""

    eos_token_id = 1

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        return [2 + byte % 60 for byte in text.encode()]


ROWS = [Row("ab", "cd", "forced"), Row("a long prompt", "e", "forced"), Row("xyz", "answer", "forced")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(tiny.write_base(tmp_path_factory.mktemp("base"))).eval()


@pytest.fixture(scope="module")
def updates() -> list[LoraUpdate]:
    shrunk = []
    for seed, names in enumerate((list(MODULES), list(MODULES)[:2])):
        update = tiny.random_update(seed, 2, {name: MODULES[name] for name in names})
        shrunk.append(LoraUpdate({n: LoraFactor(B=f.B * 0.2, A=f.A * 0.2) for n, f in update.factors.items()}))
    return shrunk


@torch.no_grad()
def plain_loss(model: LlamaForCausalLM) -> float:
    """Return the mean log-loss of the answers' tokens, each row alone."""
    encoded = [encode_row(Letters(), row) for row in ROWS]
    total = 0.0
    for row in encoded:
        logits, targets = answer_logits(model, [row], Letters.eos_token_id)
        total -= float(torch.log_softmax(logits, -1).gather(1, targets[:, None]).sum())
    return total / sum(len(row.answer_ids) for row in encoded)


def test_the_loss_is_that_of_the_merged_model(
    model: LlamaForCausalLM, updates: list[LoraUpdate], tmp_path: Path
) -> None:
    weights = ((0.5, 1.5, 2.0), (1.0, 0.3, 0.7))
    seen = answer_loss(model, Letters(), ROWS, updates)(torch.tensor(weights))
    model.save_pretrained(tmp_path)
    folded = LlamaForCausalLM.from_pretrained(tmp_path)
    merged = merge(updates, Recipe("ta", weights, "none", 8)).update
    with torch.no_grad():
        for name, value in dense(merged).items():
            folded.get_submodule(name).weight += value.float()
    assert float(seen) == pytest.approx(plain_loss(folded), rel=1e-5)


def test_the_gradient_is_that_of_the_loss(model: LlamaForCausalLM, updates: list[LoraUpdate]) -> None:
    loss = answer_loss(model, Letters(), ROWS, updates)
    at, step = torch.full((2, 3), 0.8, requires_grad=True), 1e-2
    (gradient,) = torch.autograd.grad(loss(at), at)
    for place in ((0, 0), (1, 1), (0, 2)):
        offset = torch.zeros(2, 3)
        offset[place] = step
        with torch.no_grad():
            slope = float(loss(at + offset) - loss(at - offset)) / (2 * step)
        assert float(gradient[place]) == pytest.approx(slope, rel=0.05, abs=1e-4)


def test_many_batches_add_up_to_one(
    model: LlamaForCausalLM, updates: list[LoraUpdate], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = torch.ones(2, 3, requires_grad=True)
    results: list[tuple[Tensor, Tensor]] = []
    for num_tokens in (BATCH_TOKENS, 8):
        in_batches = partial(batches_by_length, max_tokens=num_tokens)
        monkeypatch.setattr("probe.operators.learning.batches_by_length", in_batches)
        value = answer_loss(model, Letters(), ROWS, updates)(weights)
        results.append((value, torch.autograd.grad(value, weights)[0]))
    torch.testing.assert_close(results[0], results[1])


def test_learning_lowers_the_loss_and_leaves_the_model_alone(
    model: LlamaForCausalLM, updates: list[LoraUpdate]
) -> None:
    before, loss = plain_loss(model), answer_loss(model, Letters(), ROWS, updates)
    start = float(loss(torch.full((2, 3), 0.5)))
    weights = learn_weights(loss, 2, num_steps=15, l1=0.0)
    assert float(loss(torch.tensor(weights))) < start - 1e-3
    assert all(value > 0 for triple in weights for value in triple)
    merge(updates, Recipe("ta", weights, "none"))
    assert plain_loss(model) == before
    assert not any(module._forward_hooks for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_hooks_are_gone_after_an_error(model: LlamaForCausalLM, updates: list[LoraUpdate]) -> None:
    loss = answer_loss(model, Letters(), ROWS, updates)
    with pytest.raises(IndexError):
        loss(torch.ones(1, 3))  # there are two members
    assert not any(module._forward_hooks for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_weights_go_where_the_loss_is_least() -> None:
    target = torch.tensor([[0.2, 1.0, 0.5], [1.5, 0.4, 0.9]])
    learned = learn_weights(lambda weights: (weights - target).square().sum(), 2, num_steps=300, l1=0.0)
    torch.testing.assert_close(torch.tensor(learned), target, rtol=0.02, atol=0.02)
    assert learned == learn_weights(lambda weights: (weights - target).square().sum(), 2, num_steps=300, l1=0.0)


def test_weights_that_do_not_matter_shrink() -> None:
    learned = torch.tensor(learn_weights(lambda weights: 0 * weights.sum(), 2))
    assert learned.shape == (2, len(BANDS))
    assert (learned < 0.5).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(MergeError, match=f"The loss is {value}"):
        learn_weights(lambda weights: weights.sum() * value, 2)


def test_misuse_is_refused(model: LlamaForCausalLM, updates: list[LoraUpdate]) -> None:
    with pytest.raises(MergeError, match="Got 0 members"):
        learn_weights(lambda weights: weights.sum(), 0)
    with pytest.raises(MergeError, match="from 0 rows"):
        answer_loss(model, Letters(), [], updates)
    with pytest.raises(MergeError, match=r"modules \['elsewhere'\] missing in the model"):
        answer_loss(model, Letters(), ROWS, [tiny.random_update(0, 2, {"elsewhere": (4, 4)})])
