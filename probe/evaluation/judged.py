"""Forecasts beside what was measured, as columns: what every metric and every policy reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from probe.bank.report.statistics import Vector
from probe.evaluation.metrics import Flags
from probe.predictors.forecast import Forecast
from probe.predictors.labelled_merges import LabelledMerge

PLAIN = "merge"
"""The action of a merge without weights and without pruning."""


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One merge: what was measured, and what was forecast by a predictor that had not seen what the split leaves out.

    Attributes
    ----------
    stratum
        Merges of different strata are never compared with each other: the operator where one is held out, since its
        level is not what is forecast; empty elsewhere.
    """

    labelled: LabelledMerge
    forecast: Forecast
    stratum: str

    @property
    def members(self) -> tuple[str, ...]:
        """Adapters, in the order of every tuple."""
        return self.labelled.merge.members

    @property
    def operator(self) -> str:
        """Operator of the recipe."""
        return self.labelled.merge.recipe.operator

    @property
    def action(self) -> str:
        """``merge``, ``reweight`` or ``prune``."""
        return self.labelled.merge.recipe.action

    @property
    def size(self) -> int:
        """Members."""
        return len(self.members)

    @property
    def retention(self) -> tuple[float, ...]:
        """Measured Ret of every member; NaN where it was not measured."""
        return tuple(math.nan if ret is None else ret for ret in self.labelled.retention)

    @property
    def worst(self) -> float:
        """Least measured Ret; NaN where a member's was not measured."""
        return float(np.min(self.retention))


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """Members of merges whose Ret was measured; all are (rows,).

    Attributes
    ----------
    members
        Adapters of the merge, the victim first.
    blocks, strata, compared
        Number of the merge; its size, action and operator; `Judged.stratum`.
    forecast, measured, bound
        Ret; the bound is -inf where none was made.
    """

    members: tuple[tuple[str, ...], ...]
    blocks: tuple[int, ...]
    strata: tuple[tuple[int, str, str], ...]
    compared: tuple[str, ...]
    forecast: Vector
    measured: Vector
    bound: Vector


@dataclass(frozen=True, slots=True, eq=False)
class Safety:
    """Merges whose safety is known; all are (merges,)."""

    members: tuple[tuple[str, ...], ...]
    compared: tuple[str, ...]
    probability: Vector
    is_safe: Flags


@dataclass(frozen=True, slots=True, eq=False)
class Worst:
    """Least Ret of merges of which every member was measured; all are (merges,)."""

    members: tuple[tuple[str, ...], ...]
    forecast: Vector
    bound: Vector
    measured: Vector


@dataclass(frozen=True)
class Judgements:
    """Merges that one learner forecast in one regime at one share of training."""

    rows: tuple[Judged, ...]

    def where(self, keep: Callable[[Judged], bool]) -> Judgements:
        """Return some of them."""
        return Judgements(tuple(row for row in self.rows if keep(row)))

    @cached_property
    def plain_pairs(self) -> Judgements:
        """Merges of two without weights and pruning: what AUROC and Spearman are taken over."""
        return self.where(lambda row: row.size == 2 and row.action == PLAIN)

    @cached_property
    def pairs(self) -> Judgements:
        """Merges of two, of every recipe."""
        return self.where(lambda row: row.size == 2)

    @cached_property
    def sets(self) -> Judgements:
        """Merges of three or more, of every recipe.

        Apart from pairs wherever there is an interval: in a bootstrap over adapters a set weighs the product over all
        its members, so that a few sets among many pairs would be most of what is drawn.
        """
        return self.where(lambda row: row.size > 2)

    @property
    def by_kind(self) -> Mapping[str, Judgements]:
        """Pairs and sets, by these names."""
        return {"pairs": self.pairs, "sets": self.sets}

    def of_size(self, size: int) -> Judgements:
        """Return merges of so many members; sizes are never pooled."""
        return self.where(lambda row: row.size == size and row.action == PLAIN)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of members that occur, ascending."""
        return tuple(sorted({row.size for row in self.rows}))

    @property
    def adapters(self) -> frozenset[str]:
        """Everybody who is a member."""
        return frozenset(name for row in self.rows for name in row.members)

    @cached_property
    def sides(self) -> Sides:
        """One row a member whose Ret was measured and forecast."""
        found = [(number, row, place) for number, row in enumerate(self.rows) for place in _known(row)]
        return Sides(
            members=tuple(_victim_first(row.members, place) for _, row, place in found),
            blocks=tuple(number for number, _, _ in found),
            strata=tuple((row.size, row.action, row.operator) for _, row, _ in found),
            compared=tuple(row.stratum for _, row, _ in found),
            forecast=_vector(row.forecast.retention[place] for _, row, place in found),
            measured=_vector(row.labelled.retention[place] or 0.0 for _, row, place in found),
            bound=_vector(row.forecast.lower_bound[place] for _, row, place in found),
        )

    @cached_property
    def safety(self) -> Safety:
        """One row a merge of which it is known whether it is safe."""
        known = [row for row in self.rows if row.labelled.is_safe is not None]
        return Safety(
            members=tuple(row.members for row in known),
            compared=tuple(row.stratum for row in known),
            probability=_vector(row.forecast.safe_probability for row in known),
            is_safe=np.array([bool(row.labelled.is_safe) for row in known], dtype=np.bool_),
        )

    @cached_property
    def worst(self) -> Worst:
        """One row a merge of which every member was measured."""
        known = [row for row in self.rows if math.isfinite(row.worst)]
        return Worst(
            members=tuple(row.members for row in known),
            forecast=_vector(row.forecast.worst for row in known),
            bound=_vector(row.forecast.worst_lower_bound for row in known),
            measured=_vector(row.worst for row in known),
        )


NOTHING = Judgements(())
"""What is judged where nothing was forecast."""


def _known(row: Judged) -> list[int]:
    return [
        place
        for place, (kept, expected) in enumerate(zip(row.labelled.retention, row.forecast.retention, strict=True))
        if kept is not None and math.isfinite(expected)
    ]


def _victim_first(members: tuple[str, ...], place: int) -> tuple[str, ...]:
    return (members[place], *members[:place], *members[place + 1 :])


def _vector(values: Iterable[float]) -> Vector:
    return np.fromiter(values, dtype=np.float64)


def same_merges(many: Sequence[Judgements]) -> tuple[Judgements, ...]:
    """Return the merges that all were asked, in one order, so that differences are paired."""
    keyed = [{id(row.labelled): row for row in one.rows} for one in many]
    shared = [key for key in (keyed[0] if keyed else ()) if all(key in rows for rows in keyed)]
    return tuple(Judgements(tuple(rows[key] for key in shared)) for rows in keyed)
