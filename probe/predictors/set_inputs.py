"""What the set model sees of merges of three or more: their adapters, their pairs, and the pairs' forecasts.

A bank has some hundred sets at most, so the columns are cut down beforehand, by rule and not by label: of every signal
its value or its mean over all modules (`SUMMARIES`). Shares, bands and maxima have already gone into the forecasts of
the pairs, which are what a set knows most from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from probe.predictors.design import oriented
from probe.predictors.forecast import Evidence, Merge
from probe.predictors.pair_model import all_safe
from probe.predictors.schema import SIGNALS, Missing, Schema, SignalColumn
from probe.vectors import PairFeatures, Vector

SUMMARIES = ("all/mean", "all/value")
"""Group and statistic of the columns that are read."""
MARGIN_SCALE = 4.0
"""Log-odds beyond it say no more: they are squashed by tanh(margin / scale)."""


@dataclass(frozen=True, slots=True, eq=False)
class PairMatrix:
    """Forecasts of the ordered pairs of one merge: (members, members), victims first; the diagonal is NaN.

    Each as in `probe.predictors.pair_model.PairForecasts`.
    """

    retention: Vector
    margin: Vector


@dataclass(frozen=True, slots=True, eq=False)
class SetInputs:
    """Inputs of some merges, padded to the largest.

    Attributes
    ----------
    adapters, has_adapter
        (merges, members, columns), NaN where unknown, and (merges, members).
    pairs, has_pair
        (merges, pairs, columns) and (merges, pairs): unordered pairs, the same whichever is called the first.
    merge
        (merges, columns): pair forecasts in sum, size, operator.
    anchors
        (merges, 3): what the pairs alone say of macro Ret, worst Ret and the log-odds of safety.
    """

    adapters: Vector
    has_adapter: Vector
    pairs: Vector
    has_pair: Vector
    merge: Vector
    anchors: Vector

    def take(self, places: NDArray[np.int64]) -> SetInputs:
        """Return the inputs of some of the merges."""
        return SetInputs(**{one.name: getattr(self, one.name)[places] for one in fields(self)})


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """One merge to be forecast as a set: what is known of it, what must be left out, and its pairs' forecasts.

    `missing` is a value of `SIGNALS`.
    """

    merge: Merge
    evidence: Evidence
    missing: Missing
    pairs: PairMatrix


def member_retention(pairs: PairMatrix) -> Vector:
    """Return (members,): what each keeps beside the partner that it keeps least beside."""
    return np.asarray(np.nanmin(pairs.retention, axis=1))


class SetReader:
    """Reads the inputs of merges off what is known of them; columns are looked up once."""

    def __init__(self, schema: Schema) -> None:
        self._operators = tuple(schema.operators)
        self._adapter = _Summaries(schema, schema.adapter)
        self._directed = _Summaries(schema, schema.directed)
        self._symmetric = _Summaries(schema, schema.symmetric)

    def __call__(self, questions: Sequence[Question]) -> SetInputs:
        """Return the inputs of merges, at least one, in their order."""
        adapters, has_adapter = _padded([self._adapter_rows(one) for one in questions])
        pairs, has_pair = _padded([self._pair_rows(one) for one in questions])
        return SetInputs(
            adapters=adapters,
            has_adapter=has_adapter,
            pairs=pairs,
            has_pair=has_pair,
            merge=np.array([self._merge_row(one) for one in questions]),
            anchors=np.array([_anchors(one.pairs) for one in questions]),
        )

    def _adapter_rows(self, asked: Question) -> Vector:
        recipe, count = asked.merge.recipe, len(asked.merge.members)
        weights = np.asarray(recipe.weights or (1.0,) * count)
        pruned: Sequence[Mapping[str, float]] = recipe.pruned or ({},) * count
        rows = []
        for place, name in enumerate(asked.merge.members):
            known = asked.evidence.adapters[name]
            own = (weights[place] / weights.mean(), sum(pruned[place].values()), known.rho)
            rows.append([*self._adapter(known.values, asked.missing), *own])
        return np.array(rows)

    def _pair_rows(self, asked: Question) -> Vector:
        names = asked.merge.members
        rows = []
        for i, j in combinations(range(len(names)), 2):
            pair = oriented(asked.evidence.pairs, names[i], names[j])
            rows.append(np.concatenate([self._pair_signals(pair, asked.missing), _both_ways(asked.pairs, i, j)]))
        return np.array(rows)

    def _pair_signals(self, pair: PairFeatures, missing: Missing) -> Vector:
        """Return what is the same whichever adapter is called the first."""
        forth, back = self._directed(pair.forth.values, missing), self._directed(pair.back.values, missing)
        symmetric = self._symmetric(pair.symmetric.values, missing)
        return np.concatenate([symmetric, np.minimum(forth, back), np.maximum(forth, back)])

    def _merge_row(self, asked: Question) -> Vector:
        retention, margin = asked.pairs.retention, np.tanh(_pair_margins(asked.pairs) / MARGIN_SCALE)
        forecasts = [np.nanmin(retention), np.nanmean(retention), np.nanmax(retention)]
        safety = [margin.min(), margin.mean(), margin.max()]
        operator = [float(asked.merge.recipe.operator == known) for known in self._operators]
        return np.array([*forecasts, *safety, float(len(asked.merge.members)), *operator])


class _Summaries:
    """Where the summaries stand among columns of one kind, and which of them may not be seen."""

    def __init__(self, schema: Schema, columns: tuple[SignalColumn, ...]) -> None:
        self._places = [place for place, column in enumerate(columns) if column.name.endswith(SUMMARIES)]
        kept = tuple(columns[place] for place in self._places)
        self._blank = {missing: schema.is_blank(missing, kept) for missing in SIGNALS.values()}

    def __len__(self) -> int:
        return len(self._places)

    def __call__(self, values: Vector, missing: Missing) -> Vector:
        """Return the summaries among values of all columns; NaN where they may not be seen."""
        return np.where(self._blank[missing], np.nan, values[self._places])


def _both_ways(pairs: PairMatrix, i: int, j: int) -> Vector:
    ways = pairs.retention[i, j], pairs.retention[j, i]
    margin = all_safe(np.array([pairs.margin[i, j], pairs.margin[j, i]]))
    return np.array([min(ways), max(ways), np.tanh(margin / MARGIN_SCALE)])


def _anchors(pairs: PairMatrix) -> tuple[float, float, float]:
    members = member_retention(pairs)
    return float(members.mean()), float(members.min()), float(_pair_margins(pairs).min())


def _pair_margins(pairs: PairMatrix) -> Vector:
    """Return (pairs,), the log-odds that each pair is safe, both ways."""
    upper = np.triu_indices(len(pairs.margin), k=1)
    return all_safe(np.stack([pairs.margin[upper], pairs.margin.T[upper]]))


def _padded(parts: Sequence[Vector]) -> tuple[Vector, Vector]:
    """Return (merges, most rows, columns) with zeros where a merge has no further row, and which rows there are."""
    longest = max(len(part) for part in parts)
    rows, has_row = np.zeros((len(parts), longest, parts[0].shape[1])), np.zeros((len(parts), longest))
    for place, part in enumerate(parts):
        rows[place, : len(part)], has_row[place, : len(part)] = part, 1.0
    return rows, has_row
