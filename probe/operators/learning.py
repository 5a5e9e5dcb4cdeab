"""Learn the weights of a merge: one for each member and layer band, by gradient steps on a loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from probe.calibration.model_parts import Hook, forward_hooks
from probe.encoding import EncodedRow, encode_row
from probe.factors import LoraFactor, LoraUpdate
from probe.layers import BANDS
from probe.operators.recipe import MergeError, band_of_module, depth_of
from probe.records import Weight
from probe.reference import answer_logits, batches_by_length
from probe.rows import Row

Loss = Callable[[Tensor], Tensor]
"""Weights (n, 3), one column for each of `BANDS` -> scalar with a gradient."""


def learn_weights(
    loss: Loss, num_members: int, *, num_steps: int = 40, learning_rate: float = 0.1, l1: float = 0.05
) -> tuple[Weight, ...]:
    """Return positive weights that lower loss(w) + l1 * mean |w|; use them as `Recipe.weights`, with norm ``none``.

    Adam on log w from w = 1/n, so that weights stay positive; no random number is drawn.

    Parameters
    ----------
    num_steps
        Each costs one call of `loss` and its gradient. 40 steps let a weight move by a factor of exp(4).
    learning_rate
        Of Adam on log w: a step changes a weight by about this share.
    l1
        Pull towards zero, in units of the loss; 0.05 is LoraHub's (arXiv 2307.13269).

    Raises
    ------
    MergeError
        There is no member, or the loss is not finite.

    References
    ----------
    AdaMerging (arXiv 2310.02575), layer-wise coefficients, with a loss on answers instead of the entropy.
    """
    if num_members < 1:
        raise MergeError(f"Got {num_members} members; expected one or more to weigh.")
    log_weights = torch.full((num_members, len(BANDS)), 1 / num_members).log().requires_grad_()
    optimiser = torch.optim.Adam([log_weights], lr=learning_rate)
    for _ in range(num_steps):
        weights = log_weights.exp()
        objective = loss(weights) + l1 * weights.mean()
        if not objective.isfinite():
            raise MergeError(
                f"The loss is {objective.item()} at the weights {weights.tolist()}; expected a finite number. "
                "Lower the learning rate, or look for a diverged member."
            )
        (log_weights.grad,) = torch.autograd.grad(objective, log_weights)
        optimiser.step()
    return tuple((lower, middle, upper) for lower, middle, upper in log_weights.exp().tolist())


def answer_loss(model: Any, tokenizer: Any, rows: Sequence[Row], updates: Sequence[LoraUpdate]) -> Loss:
    """Return the loss of `rows` under base + sum_i w_i D_i: mean log-loss of an answer token, in nats.

    Rows of all members together say what the merge is for; tasks count by their answer tokens. The model is changed
    during a call only. A call works out value and gradient batch by batch and keeps no batch's graph, so its memory
    does not grow with the rows; higher derivatives are therefore not available.

    Parameters
    ----------
    model
        A causal language model of transformers, without adapters.

    Raises
    ------
    MergeError
        There are no rows, or an update has a module that the model lacks.
    """
    known = {name for name, _ in model.named_modules()}
    missing = sorted({name for update in updates for name in update.factors} - known)
    if missing or not rows:
        raise MergeError(
            f"Cannot learn weights from {len(rows)} rows with the modules {missing} missing in the model; "
            "expected rows, and updates of this very base."
        )
    encoded = [encode_row(tokenizer, row) for row in rows]
    batches = [
        [encoded[index] for index in batch]
        for batch in batches_by_length(range(len(rows)), [row.num_tokens for row in encoded])
    ]
    return partial(_answer_loss, model, tokenizer.eos_token_id, batches, updates)


def _answer_loss(
    model: Any, pad_id: int, batches: Sequence[Sequence[EncodedRow]], updates: Sequence[LoraUpdate], weights: Tensor
) -> Tensor:
    own = weights.detach().requires_grad_()
    value, gradient = torch.zeros(()), torch.zeros_like(own)
    num_tokens = sum(len(row.answer_ids) for batch in batches for row in batch)
    with torch.enable_grad(), _weighted(model, updates, own):
        for batch in batches:
            logits, targets = answer_logits(model, batch, pad_id)
            part = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum") / num_tokens
            value, gradient = value + part.detach().cpu(), gradient + torch.autograd.grad(part, own)[0]
    # A plane with the value and the gradient of the loss at `weights`.
    return value + (gradient * (weights - own.detach())).sum()


@contextmanager
def _weighted(model: Any, updates: Sequence[LoraUpdate], weights: Tensor) -> Iterator[None]:
    """Add sum_i w_i D_i to the model's linear modules, and take no gradients of its own weights meanwhile."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    num_layers = depth_of(updates)
    hooks = []
    for name in sorted({name for update in updates for name in update.factors}):
        band = BANDS.index(band_of_module(name, num_layers))
        factors = {index: update.factors[name] for index, update in enumerate(updates) if name in update.factors}
        hooks.append((model.get_submodule(name), _adder(factors, weights[:, band])))
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        with forward_hooks(hooks):
            yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def _adder(factors: dict[int, LoraFactor], weights: Tensor) -> Hook:
    """Return a forward hook that adds sum_i w_i B_i A_i x, all members in one pair of products."""
    B = torch.cat([factor.B for factor in factors.values()], dim=1)  # noqa: N806
    A = torch.cat([factor.A for factor in factors.values()], dim=0)  # noqa: N806
    ranks = torch.tensor([factor.rank for factor in factors.values()])
    members = list(factors)

    def add(_module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = inputs[0]
        # Here and not outside: every batch's gradient goes through a graph of its own.
        scales = weights[members].repeat_interleave(ranks)
        return output + (x @ A.T.to(x) * scales.to(x)) @ B.T.to(x)

    return add
