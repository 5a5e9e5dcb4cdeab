"""The calibration pass: one forward and one backward of an adapter's rows give everything a profile needs of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from probe.calibration.adapted import adapted
from probe.calibration.adapter_sums import AdapterSums
from probe.calibration.backward import Progress, run_backward, watching
from probe.calibration.base_pass import BaseCalibration, calibrate_base
from probe.calibration.directions import one_thread
from probe.calibration.errors import CalibrationError
from probe.calibration.examples import Examples, encode_examples
from probe.calibration.model_parts import block_linears, block_outputs, evaluating
from probe.factors import LoraUpdate
from probe.profiles import Calibration
from probe.rows import Row

NUM_DIRECTIONS = 32
"""q of `mergeprobe.md`: top-32 principal directions."""
NUM_SAMPLED_TOKENS = 192
"""Tokens that principal directions are taken of: six a direction; the decomposition costs their number cubed."""


def calibrate(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    update: LoraUpdate,
    *,
    base: BaseCalibration | None = None,
    modules: Sequence[str] | None = None,
    num_directions: int = NUM_DIRECTIONS,
    num_sampled_tokens: int = NUM_SAMPLED_TOKENS,
    seed: int = 0,
    on_progress: Callable[[float], None] | None = None,
) -> Calibration:
    """Run calibration rows forward and backward under an adapter, and at the base unless `base` is given.

    A function of the update alone, not of its factors. Sums run in float32 whatever the model's dtype; results are
    on the CPU. Beside what a backward holds anyway, the inputs of every module are kept for one batch.

    Parameters
    ----------
    model, tokenizer
        The loaded base model, on any device, float32 or bfloat16; it is given back as it was.
    rows
        At least one; the paper takes 256.
    base
        Of the same rows and modules, from `calibrate_base`: saves half the work at a further checkpoint.
    modules
        Linear modules inside the numbered blocks; None is all of them, so that adapters with different target
        modules can be compared.
    num_directions
        q, principal directions of inputs and of the residual stream; fewer where the tokens span fewer.
    num_sampled_tokens
        Tokens that they are taken of, drawn uniformly: from all for inputs; for the residual stream not from the
        first of a row, an attention sink that would drown the rest.
    seed
        Of that draw.
    on_progress
        Called with the share done, up to 1.

    Raises
    ------
    CalibrationError
        No rows, no end token, an unknown module, `base` of other rows or modules, or a loss that is not finite.
    """
    num_passes = 2 if base is None else 1
    if base is None:
        base = calibrate_base(model, tokenizer, rows, modules=modules, on_progress=_part_of(on_progress, 0, num_passes))
    examples = encode_examples(tokenizer, rows)
    linears = block_linears(model, modules)
    _check_base(base, examples, linears)
    sums = AdapterSums(examples, linears, num_sampled_tokens, seed)
    with adapted(model, update):
        loss = _run(model, examples, sums, _part_of(on_progress, num_passes - 1, num_passes))
    with one_thread():
        modules_found, layers_found = sums.modules(num_directions), sums.layers(num_directions)
    return Calibration(
        modules=modules_found,
        layers=layers_found,
        loss=loss,
        base_loss=base.loss,
        base_accuracy=base.accuracy,
        base_gradients={name: base.gradients[name] for name in linears},
        num_rows=len(examples.rows),
        num_tokens=examples.num_tokens,
        seed=seed,
    )


def _run(model: Any, examples: Examples, sums: AdapterSums, on_progress: Callable[[float], None] | None) -> float:
    """Run every batch and return the loss: mean over rows, nats a token."""
    batches = examples.batches()
    progress = Progress(len(batches), on_progress)
    losses = []
    with (
        evaluating(model),
        watching(sums.linears, sums.add_input, sums.add_gradient),
        block_outputs(model, sums.add_stream),
    ):
        for step, batch in enumerate(batches, start=1):
            sums.start(batch)
            losses.append(run_backward(model, batch, examples.pad_id)[0])
            progress.done(step)
    return float(torch.cat(losses).double().mean())


def _part_of(on_progress: Callable[[float], None] | None, part: int, num_parts: int) -> Callable[[float], None] | None:
    """Return a callback for one of several equal parts of the work."""
    return on_progress and (lambda share: on_progress((part + share) / num_parts))


def _check_base(base: BaseCalibration, examples: Examples, linears: Mapping[str, nn.Linear]) -> None:
    if base.examples != examples:
        raise CalibrationError(
            f"the base part was measured on {len(base.examples.rows)} other rows than these {len(examples.rows)}; "
            "run calibrate_base on the same rows."
        )
    if missing := [name for name in linears if name not in base.gradients]:
        raise CalibrationError(
            f"the base part lacks {len(missing)} modules, first {missing[0]!r}; run calibrate_base on the same modules."
        )
