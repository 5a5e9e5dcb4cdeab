"""Measuring signals as a Ray task: off the serving path, with limits of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from serve.limited.limits import SignalsConfig
from serve.limited.task import Workers
from serve.signals.measuring import Place

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class RaySignals:
    """Has signals measured in workers on this node, where the folders are; a `Measure`."""

    place: Place
    limits: SignalsConfig
    workers: Workers

    def __call__(self, work: Callable[[Place], Result]) -> Result:
        """Return what the work returns, once its results are on disk; see `Measure`."""
        return self.workers.run(f"Measuring {work}", self.limits, work, self.place)
