"""Calibration rows as batches of tokens, and which of their tokens are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probe.calibration.errors import CalibrationError
from probe.encoding import EncodedRow, encode_row
from probe.reference import batches_by_length
from probe.rows import Row

BATCH_TOKENS = 512
"""Padded tokens of one batch. A few dozen rows in one large batch are a third padding, and a backward holds all of its
inputs; two cores are as fast with this many tokens as with more."""

Positions = Sequence[Tensor]
"""Row number -> token positions in that row, (number chosen,), possibly none."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that run together, padded on the right to `width` tokens.

    Attributes
    ----------
    numbers
        Which rows of the set these are.
    rows
        The rows themselves.
    """

    numbers: tuple[int, ...]
    rows: tuple[EncodedRow, ...]

    @property
    def width(self) -> int:
        """Tokens of the longest row."""
        return max(row.num_tokens for row in self.rows)

    def flat(self, positions: Positions) -> Tensor:
        """Return where tokens of this batch lie once (rows, width) is flattened: (number chosen,)."""
        return torch.cat([positions[number] + place * self.width for place, number in enumerate(self.numbers)])


@dataclass(frozen=True, slots=True)
class Examples:
    """A calibration set, tokenised.

    Attributes
    ----------
    rows
        In the caller's order.
    pad_id
        What fills a batch up; its value never matters.
    """

    rows: tuple[EncodedRow, ...]
    pad_id: int

    @property
    def num_tokens(self) -> int:
        """Tokens of all rows, prompts included."""
        return sum(row.num_tokens for row in self.rows)

    def batches(self) -> list[Batch]:
        """Return all rows in batches of like length."""
        lengths = [row.num_tokens for row in self.rows]
        return [
            Batch(tuple(numbers), tuple(self.rows[number] for number in numbers))
            for numbers in batches_by_length(range(len(self.rows)), lengths, BATCH_TOKENS)
        ]

    def positions(self, first: int = 0) -> Positions:
        """Return every position from `first` on, of each row."""
        return [torch.arange(first, row.num_tokens) for row in self.rows]

    def sample(self, num_tokens: int, seed: int, first: int = 0) -> Positions:
        """Draw up to `num_tokens` of all positions from `first` on, uniformly, without replacement."""
        every = self.positions(first)
        generator = torch.Generator().manual_seed(seed)
        is_chosen = torch.zeros(sum(map(len, every)), dtype=torch.bool)
        is_chosen[torch.randperm(len(is_chosen), generator=generator)[:num_tokens]] = True
        per_row = torch.split(is_chosen, list(map(len, every)))
        return [positions[chosen] for positions, chosen in zip(every, per_row, strict=True)]


def encode_examples(tokenizer: Any, rows: Sequence[Row]) -> Examples:
    """Tokenise calibration rows.

    Raises
    ------
    CalibrationError
        There is no row, or the tokenizer has no end token.
    """
    if not rows:
        raise CalibrationError("there are no calibration rows; expected at least one, better 64 to 128.")
    if tokenizer.eos_token_id is None:
        raise CalibrationError(
            "the tokenizer has no end token, with which every answer ends; set its eos_token to the model's."
        )
    return Examples(tuple(encode_row(tokenizer, row) for row in rows), tokenizer.eos_token_id)
