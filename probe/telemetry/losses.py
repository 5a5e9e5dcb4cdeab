"""The losses of a training run as they were seen, step by step, and what is read off them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator


class LossLog(BaseModel):
    """Training losses in nats, as the trainer optimises them; two logs are equal if all their fields are.

    Attributes
    ----------
    steps
        Optimiser steps done, ascending from 1.
    values
        One a step; None is a loss that was not finite.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    steps: tuple[int, ...] = ()
    values: tuple[float | None, ...] = ()

    @model_validator(mode="after")
    def _check_steps(self) -> Self:
        if len(self.steps) != len(self.values):
            raise ValueError(f"expected as many steps as values, saw {len(self.steps)} and {len(self.values)}")
        if any(late <= early for early, late in zip((0, *self.steps), self.steps, strict=False)):
            raise ValueError("expected steps that ascend from 1")
        return self

    def extended(self, losses: Sequence[tuple[int, float]]) -> LossLog:
        """Return the log with further (step, loss) at its end; a loss that is no finite number is stored as None."""
        if not losses:
            return self
        steps, values = zip(*losses, strict=True)
        known = (value if math.isfinite(value) else None for value in values)
        return LossLog(steps=(*self.steps, *steps), values=(*self.values, *known))

    def up_to(self, step: int) -> LossLog:
        """Return what was known when `step` steps were done."""
        num_kept = sum(seen <= step for seen in self.steps)
        return LossLog(steps=self.steps[:num_kept], values=self.values[:num_kept])

    def mean(self, after: int, up_to: int) -> float | None:
        """Return the mean of the finite losses of the steps after `after`, to `up_to` inclusive; None without any."""
        values = [value for step, value in self._finite(up_to) if step > after]
        return math.fsum(values) / len(values) if values else None

    def slope(self, up_to: int, num_steps: int) -> float | None:
        """Return the least-squares slope of the losses, in nats per percent of training; negative = still learning.

        Parameters
        ----------
        up_to
            Last step that counts, so that a checkpoint knows nothing of what came after it.
        num_steps
            Planned steps of the whole training.

        Returns
        -------
        float or None
            None under two finite losses.
        """
        points = list(self._finite(up_to))
        if len(points) < 2:
            return None
        steps, values = np.asarray(points, dtype=np.float64).T
        return float(np.polyfit(100 * steps / num_steps, values, 1)[0])

    def _finite(self, up_to: int) -> Iterator[tuple[int, float]]:
        for step, value in zip(self.steps, self.values, strict=True):
            if value is not None and step <= up_to:
                yield step, value
