"""What the calibration rows say of the base model alone: measured once for all checkpoints of an adapter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probe.calibration.backward import Progress, run_backward, watching
from probe.calibration.examples import Examples, encode_examples
from probe.calibration.model_parts import block_linears, evaluating
from probe.calibration.sketch import GradientSketches
from probe.rows import Row


@dataclass(frozen=True, slots=True, eq=False)
class BaseCalibration:
    """One forward and backward of calibration rows without any adapter; a function of rows and base model only.

    Attributes
    ----------
    examples
        The rows, tokenised: what tells whether this belongs to a calibration set.
    loss
        Mean over rows of a row's mean answer log-loss, nats a token.
    accuracy
        Share of rows whose answer tokens are all the argmax, 0..1.
    gradients
        Base module name -> (k, k), sketch of the mean gradient, float32 on the CPU.
    """

    examples: Examples
    loss: float
    accuracy: float
    gradients: Mapping[str, Tensor]


def calibrate_base(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    *,
    modules: Sequence[str] | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> BaseCalibration:
    """Run calibration rows forward and backward at the base.

    Parameters
    ----------
    model, tokenizer
        A loaded causal language model, on any device, float32 or bfloat16; it is given back as it was.
    rows
        At least one; the paper takes 256.
    modules
        Linear modules inside the numbered blocks; None is all of them, so that adapters with different target
        modules can be compared.
    on_progress
        Called with the share done, up to 1.

    Raises
    ------
    CalibrationError
        No rows, no end token, an unknown module, or a loss that is not finite.
    """
    examples = encode_examples(tokenizer, rows)
    linears = block_linears(model, modules)
    sketches = GradientSketches(linears)
    batches = examples.batches()
    progress = Progress(len(batches), on_progress)
    losses, are_right = [], []
    with evaluating(model), watching(linears, sketches.project_input, sketches.add):
        for step, batch in enumerate(batches, start=1):
            batch_losses, batch_right = run_backward(model, batch, examples.pad_id)
            losses.append(batch_losses)
            are_right.append(batch_right)
            progress.done(step)
    num_rows = len(examples.rows)
    return BaseCalibration(
        examples=examples,
        loss=float(torch.cat(losses).double().mean()),
        accuracy=float(torch.cat(are_right).double().mean()),
        gradients=sketches.means(num_rows),
    )
