"""Training examples and the order they are trained in."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from probe.bank.training.settings import Training
from probe.encoding import EncodedRow


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """Two answers to one prompt.

    Attributes
    ----------
    chosen, rejected
        The better and the worse answer, each with the prompt.
    base_margin
        log p(chosen) - log p(rejected) under the base, nats, sums over answer tokens.
    """

    chosen: EncodedRow
    rejected: EncodedRow
    base_margin: float

    @property
    def num_tokens(self) -> int:
        """Tokens that run through the model for this pair."""
        return self.chosen.num_tokens + self.rejected.num_tokens


Example = EncodedRow | PreferencePair
Batch = tuple[Example, ...]


def ordered_batches(examples: Sequence[Example], training: Training, seed: int) -> tuple[Batch, ...]:
    """Return the batches of all epochs in training order; a function of the arguments alone."""
    return tuple(_batches(examples, training, random.Random(seed)))  # noqa: S311 - an order, not a key


def _batches(examples: Sequence[Example], training: Training, rng: random.Random) -> Iterator[Batch]:
    """Yield shuffled batches of examples of like length, so that little of a batch is padding."""
    for _ in range(training.num_epochs):
        order = sorted(examples, key=lambda example: (example.num_tokens, rng.random()))
        size = training.batch_rows
        batches = [tuple(order[start : start + size]) for start in range(0, len(order), size)]
        rng.shuffle(batches)
        yield from batches
