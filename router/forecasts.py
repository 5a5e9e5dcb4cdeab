"""What the planner asks a predictor: forecasts of merges, by revision. Records and a protocol, no prediction here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from router.records import Recipe


@dataclass(frozen=True, slots=True)
class GroupForecast:
    """Forecast of one recipe. No number is NaN: of what is not known there is no forecast.

    Attributes
    ----------
    retention
        Revision of every member -> point forecast of Ret, a ratio, not clipped.
    lower_bound
        Revision of every member -> one-sided conformal lower bound of its Ret; -inf where too few labels bound it.
    safe_probability
        0..1, calibrated: that every member keeps what is asked.
    note
        What a person should know of the conflict, such as "conflict mostly in layers 20-29"; "" for nothing.
    """

    retention: Mapping[str, float]
    lower_bound: Mapping[str, float]
    safe_probability: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class ConflictPart:
    """A part of one member that could be left out of a merge.

    Attributes
    ----------
    member
        Revision.
    modules
        Names of the base modules that make it up, such as those of one layer.
    share
        0..1, of the group's Fisher-weighted conflict.
    """

    member: str
    modules: tuple[str, ...]
    share: float


class Forecasts(Protocol):
    """Everything that a planner learns of merges that were not measured.

    Pure as seen from the planner: as long as `version` of every member stays the same, so do the answers on groups of
    them, also those that nothing is known.
    """

    def version(self, revision: str) -> str:
        """Return a token of what the forecasts with an adapter rest on: its evidence, and the predictor.

        Another token says that its forecasts may differ, so that what the planner remembers of them is dropped.
        """
        ...

    def neighbours(self, revision: str) -> Sequence[str]:
        """Return revisions to merge with, the most compatible first; a large bank is planned by the first few."""
        ...

    def groups(self, recipes: Sequence[Recipe]) -> Sequence[GroupForecast | None]:
        """Return a forecast for each recipe, in order; None where nothing is known (yet).

        A planner asks for many recipes at once, so that they may be predicted in one go.
        """
        ...

    def conflicts(self, members: Sequence[str]) -> Sequence[ConflictPart]:
        """Return parts that could be pruned, the one with the most Fisher-weighted conflict first.

        All parts of one member together never are the whole member: nothing would be left to serve. Empty where the
        conflict is not known.
        """
        ...


def bounded(value: float) -> float | None:
    """Return a bound for a record that is stored or shown: None where it is not finite."""
    return value if math.isfinite(value) else None
