"""How an evaluation is made: what is left out at a time, what is learnt from, and how it is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from probe.evaluation.teaching import Teaching, fewer_merges, fewer_rows, noisy, shuffled
from probe.predictors.options import FitOptions
from probe.signals import Family

EARLY = 0.10
"""Share of training at which the paper forecasts, and at which everything but the regimes is judged."""

ALL_FAMILIES = "all families"
"""The row of Table 3 that leaves nothing out."""

MERGES, ROWS, NOISE = "share of the merges", "share of the evaluation rows", "noise of Ret"
PERMUTED = "permutation null"


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is learnt from instead of the records as they are: kind, how much of it, and the function."""

    kind: str
    amount: float
    teach: Teaching


LESSONS: tuple[Lesson, ...] = (
    *(Lesson(MERGES, share, fewer_merges(share)) for share in (0.125, 0.25, 0.5, 1.0)),
    *(Lesson(ROWS, share, fewer_rows(share)) for share in (0.125, 0.25, 0.5)),
    *(Lesson(NOISE, deviation, noisy(deviation)) for deviation in (0.1, 0.2, 0.4)),
    Lesson(PERMUTED, 1.0, shuffled),
)
"""Tests are the same for all; the whole of the merges is what the others are compared with."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of an evaluation.

    Attributes
    ----------
    rhos
        Shares of training that are tested, where the records know adapters there.
    num_groups
        Groups of adapters that are left out in turn: for whole predictors of the bank-aware regime, Table 3 and
        lessons.
    num_cold_groups
        As many of which two at a time are left out for the cold start.
    families
        Those that are left out, and read alone.
    headline
        Options of the pair model that is compared with the baselines, one adapter left out at a time.
    repeated
        Options of all else: a third of the trees, and three folds inside, are a quarter of the time.
    """

    rhos: tuple[float, ...] = (0.02, 0.05, EARLY, 1.0)
    num_groups: int = 8
    num_cold_groups: int = 4
    families: tuple[Family, ...] = tuple(Family)
    headline: FitOptions = field(default_factory=FitOptions)
    repeated: FitOptions = field(default_factory=lambda: FitOptions(num_trees=100, num_folds=3))

    @property
    def ablations(self) -> Mapping[str, frozenset[Family]]:
        """Row of Table 3 -> families that are read."""
        everything = frozenset(Family)
        return {ALL_FAMILIES: everything} | {f"minus {family}": everything - {family} for family in self.families}
