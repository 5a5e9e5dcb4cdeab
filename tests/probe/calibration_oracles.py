"""What the calibration pass measures, computed the plain way: row by row, with dense weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from probe.calibration.examples import encode_examples
from probe.calibration.model_parts import block_linears, block_outputs
from probe.factors import LoraUpdate
from probe.profiles import Calibration
from probe.reference import answer_logits
from probe.rows import Row
from tests import tiny

LINEARS = [f"model.layers.{layer}.{module}" for layer in range(2) for module in tiny.BLOCK_SHAPES]
ROWS = tuple(
    Row(f"<|im_start|>{word}<|im_end|>", answer, "forced")
    for word, answer in [("two and two", "4"), ("abc", "cba"), ("say no", "no"), ("a", "bb"), ("what is this?", "it")]
)


def row_losses(model: Any, tokenizer: Any, rows: Sequence[Row] = ROWS) -> Tensor:
    """Each row alone, without padding: mean answer log-loss."""
    losses = []
    for row in encode_examples(tokenizer, rows).rows:
        logits, targets = answer_logits(model, [row], 0)
        losses.append(torch.nn.functional.cross_entropy(logits, targets))
    return torch.stack(losses)


def merged(model: Any, update: LoraUpdate) -> Any:
    """Add the update to the dense weights."""
    with torch.no_grad():
        for name, factor in update.factors.items():
            model.get_submodule(name).weight += factor.B @ factor.A
    return model


def dense_gradients(model: Any, tokenizer: Any) -> dict[str, Tensor]:
    """Module name -> (rows, d_out, d_in), gradient of each row's loss, by autograd on dense weights."""
    weights = {name: module.weight for name, module in block_linears(model).items()}
    per_row = [
        torch.autograd.grad(loss, list(weights.values()), retain_graph=True) for loss in row_losses(model, tokenizer)
    ]
    return {name: torch.stack(parts) for name, parts in zip(weights, zip(*per_row, strict=True), strict=True)}


def assert_same(seen: Calibration, wanted: Calibration, tolerance: float = 1e-4) -> None:
    """Compare all that does not depend on the order of rounding, directions by their projectors."""

    def close(one: Tensor, other: Tensor) -> None:
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * float(other.abs().max()))

    assert seen.modules.keys() == wanted.modules.keys()
    assert seen.layers.keys() == wanted.layers.keys()
    for name, module in wanted.modules.items():
        own = seen.modules[name]
        for field in ("f_out", "f_in", "gradient", "energy_in"):
            close(getattr(own, field), getattr(module, field))
        close((own.P_in * own.energy_in) @ own.P_in.T, (module.P_in * module.energy_in) @ module.P_in.T)
        close(seen.base_gradients[name], wanted.base_gradients[name])
    for number, layer in wanted.layers.items():
        close(seen.layers[number].energy, layer.energy)
    assert seen.loss == pytest.approx(wanted.loss, rel=tolerance)
    assert seen.base_loss == pytest.approx(wanted.base_loss, rel=tolerance)


def stream(model: Any, tokenizer: Any, row: Row) -> dict[int, Tensor]:
    """Block number -> (T, d), hidden states of one row."""
    found: dict[int, Tensor] = {}
    with torch.no_grad(), block_outputs(model, lambda number, hidden: found.update({number: hidden[0]})):
        answer_logits(model, encode_examples(tokenizer, [row]).rows, 0)
    return found


def num_hooks(model: Any) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())
