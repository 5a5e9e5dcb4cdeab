"""How far adapters move the residual stream on another adapter's calibration rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from probe.calibration.adapted import adapted
from probe.calibration.examples import Batch, Examples, encode_examples
from probe.calibration.model_parts import block_outputs, evaluating
from probe.factors import LoraUpdate
from probe.profiles import Shift
from probe.reference import hidden_states
from probe.rows import Row, drawn_rows

Key = TypeVar("Key", bound=Hashable)
Squares = dict[int, float]
"""Block number -> sum of squares over tokens."""

NUM_ROWS = 16
"""Rows that a shift is measured on; it is a ratio of norms over hundreds of tokens, which few rows settle: of 16 rows
the mean over blocks varies by 1 to 5 % between draws (one standard deviation, adapters of SmolLM2-135M)."""


@dataclass(frozen=True, slots=True, eq=False)
class Displacements(Generic[Key]):
    """How far updates move the residual stream on the same rows, over all tokens but the first of each row.

    Attributes
    ----------
    of_base
        Block number -> |h_0|^2.
    of_updates
        Key -> block number -> |h_i - h_0|^2.
    num_rows
        Rows that they were measured on.
    """

    of_base: Squares
    of_updates: Mapping[Key, Squares]
    num_rows: int

    def shift(self, mover: Key, own: Key) -> Shift:
        """Return what one update does to rows of another; blocks that `own` does not move have no `of_own`."""
        moved = self.of_updates[mover]
        return Shift(_ratios(moved, self.of_base), _ratios(moved, self.of_updates[own]), self.num_rows)


def displacements(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    updates: Mapping[Key, LoraUpdate],
    *,
    num_rows: int = NUM_ROWS,
    seed: int = 0,
) -> Displacements[Key]:
    """Measure how far each of some updates moves the residual stream, forward only.

    The cost is that of 1 + len(updates) forward passes; hidden states are kept for one batch, at the base only.

    Parameters
    ----------
    model, tokenizer
        The loaded base model, on any device, float32 or bfloat16; it is given back as it was.
    rows
        Calibration rows of one adapter.
    updates
        Any key -> update.
    num_rows, seed
        Rows drawn, and the seed of the draw; all rows where there are no more.

    Raises
    ------
    CalibrationError
        No rows, no end token, or an update that does not fit the model.
    """
    examples = encode_examples(tokenizer, drawn_rows(rows, num_rows, seed))
    of_base: Squares = {}
    of_updates: dict[Key, Squares] = {key: {} for key in updates}
    with torch.inference_mode(), evaluating(model):
        for batch in examples.batches():
            base = _Stream(model, examples, batch)
            base.add_squares(of_base)
            for key, update in updates.items():
                base.add_distances(update, of_updates[key])
    return Displacements(of_base, of_updates, len(examples.rows))


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
    """Measure what each of `others` does to the residual stream on rows of the adapter `own`.

    Parameters and exceptions are those of `displacements`, and:

    Parameters
    ----------
    own
        The adapter that the rows are of.
    others
        Any key -> update.

    Returns
    -------
    dict
        A shift for each key.
    """
    updates: dict[tuple[Key, ...], LoraUpdate] = {(): own} | {(key,): update for key, update in others.items()}
    found = displacements(model, tokenizer, rows, updates, num_rows=num_rows, seed=seed)
    return {key: found.shift((key,), ()) for key in others}


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
            hidden_states(self._model, self._batch.rows, self._examples.pad_id)


def _add_square(sums: Squares, number: int, vectors: Tensor) -> None:
    sums[number] = sums.get(number, 0.0) + float(vectors.square().sum(dtype=torch.float64))


def _ratios(moved: Squares, by: Squares) -> dict[int, float]:
    """Return ratios of norms from sums of squares, where the denominator is not zero."""
    return {number: math.sqrt(moved[number] / by[number]) for number in moved if by[number] > 0}
