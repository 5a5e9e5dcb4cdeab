"""Forecasts beside what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from probe.vectors import Vector


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """Forecasts beside what was measured, and what the merges were.

    Attributes
    ----------
    forecast, measured
        (rows,), Ret.
    actions, operators, members
        (rows,), of the merges.
    """

    forecast: Vector
    measured: Vector
    actions: Sequence[str]
    operators: Sequence[str]
    members: Sequence[tuple[str, ...]]

    @property
    def errors(self) -> Vector:
        """(rows,), forecast - measured: positive = too hopeful."""
        return self.forecast - self.measured


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Forecasts of one view that no model behind them was fitted on.

    Attributes
    ----------
    member, worst
        Ret of each member of each merge, and the least Ret of each merge.
    margin, is_safe
        (merges whose safety is known,), log-odds, and 0 or 1.
    """

    member: Compared
    worst: Compared
    margin: Vector
    is_safe: Vector
