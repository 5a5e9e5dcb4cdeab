"""How far adapters move the residual stream on another adapter's calibration rows."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from probe.calibration.adapted import adapted
from probe.calibration.examples import Batch, Examples, encode_examples
from probe.calibration.model_parts import block_outputs, evaluating
from probe.factors import LoraUpdate
from probe.profiles import Shift
from probe.reference import answer_logits
from probe.rows import Row

Key = TypeVar("Key", bound=Hashable)
Squares = dict[int, float]
"""Block number -> sum of squares over tokens."""

NUM_ROWS = 32
"""Rows that a shift is measured on; it is a ratio of norms over hundreds of tokens, which few rows settle."""


def shifts(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    own: LoraUpdate,
    others: Mapping[Key, LoraUpdate],
    *,
    num_rows: int = NUM_ROWS,
    seed: int = 0,
) -> dict[Key, Shift]:
    """Measure what each of `others` does to the residual stream on rows of the adapter `own`, forward only.

    The cost is that of 2 + len(others) forward passes; hidden states are kept for one batch, at the base only.

    Parameters
    ----------
    model, tokenizer
        The loaded base model, on any device, float32 or bfloat16; it is given back as it was.
    rows
        Calibration rows of `own`.
    others
        Any key -> update.
    num_rows, seed
        Rows drawn, and the seed of the draw; all rows where there are no more.

    Returns
    -------
    dict
        A shift for each key. Blocks that `own` does not move have no `of_own`.

    Raises
    ------
    CalibrationError
        No rows, no end token, or an update that does not fit the model.
    """
    drawn = random.Random(seed).sample(range(len(rows)), min(num_rows, len(rows)))  # noqa: S311 - a draw, not a key
    examples = encode_examples(tokenizer, [rows[index] for index in sorted(drawn)])
    of_base: Squares = {}
    of_own: Squares = {}
    of_others: dict[Key, Squares] = {key: {} for key in others}
    with torch.inference_mode(), evaluating(model):
        for batch in examples.batches():
            base = _Stream(model, examples, batch)
            base.add_squares(of_base)
            base.add_distances(own, of_own)
            for key, update in others.items():
                base.add_distances(update, of_others[key])
    return {
        key: Shift(_ratios(moved, of_base), _ratios(moved, of_own), len(examples.rows))
        for key, moved in of_others.items()
    }


class _Stream:
    """The base's residual stream on one batch, after every block, first positions left out."""

    def __init__(self, model: Any, examples: Examples, batch: Batch) -> None:
        self._model, self._examples, self._batch = model, examples, batch
        self._tokens = batch.flat(examples.positions(first=1)).to(model.device)
        self._hidden: dict[int, Tensor] = {}
        self._run(self._hidden.__setitem__)

    def add_squares(self, sums: Squares) -> None:
        """Add |h_0|^2 of every block."""
        for number, hidden in self._hidden.items():
            _add_square(sums, number, hidden)

    def add_distances(self, update: LoraUpdate, sums: Squares) -> None:
        """Add |h_i - h_0|^2 of every block, h_i being the stream under `update`."""
        with adapted(self._model, update):
            self._run(lambda number, hidden: _add_square(sums, number, hidden - self._hidden[number]))

    def _run(self, on_tokens: Callable[[int, Tensor], None]) -> None:
        """Run the batch; `on_tokens` gets block numbers and hidden states (tokens, d), float32."""
        with block_outputs(self._model, lambda n, hidden: on_tokens(n, hidden.flatten(0, 1)[self._tokens].float())):
            answer_logits(self._model, self._batch.rows, self._examples.pad_id)


def _add_square(sums: Squares, number: int, vectors: Tensor) -> None:
    sums[number] = sums.get(number, 0.0) + float(vectors.square().sum(dtype=torch.float64))


def _ratios(moved: Squares, by: Squares) -> dict[int, float]:
    """Return ratios of norms from sums of squares, where the denominator is not zero."""
    return {number: math.sqrt(moved[number] / by[number]) for number in moved if by[number] > 0}
