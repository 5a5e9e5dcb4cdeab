"""Trials of whole predictors: one is fitted once a split, as `mergeprobe fit` does it, and asked at every rho."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from probe.bank.ceilings import Ceilings
from probe.bank.records import Records
from probe.evaluation.judged import PLAIN, Judged, Judgements
from probe.evaluation.splits import Split
from probe.predictors.fitting import TooFewLabels, fit
from probe.predictors.forecast import Evidence, Forecast, Merge
from probe.predictors.known_features import KnownFeatures
from probe.predictors.labelled_merges import LabelledMerge
from probe.predictors.options import FitOptions
from probe.predictors.predictor import Predictor


@dataclass(frozen=True, slots=True)
class GainForecast:
    """G of an adapter that the predictor had not seen, as forecast at one rho, and as measured at the end."""

    adapter: str
    forecast: float
    measured: float


@dataclass(frozen=True)
class Tried:
    """What predictors forecast.

    Attributes
    ----------
    judged
        rho -> forecasts of pairs and sets.
    by_pairs
        rho -> the same merges, sets forecast from their pairs alone; empty where that was not asked.
    gains
        rho -> gains of adapters left out.
    too_few
        Names of splits that left too little to fit a predictor to.
    """

    judged: Mapping[float, Judgements]
    by_pairs: Mapping[float, Judgements]
    gains: Mapping[float, tuple[GainForecast, ...]]
    too_few: tuple[str, ...]


@dataclass(frozen=True)
class PredictorData:
    """Merges with what was measured of them, and features in every state; both of all adapters."""

    records: Records
    merges: Sequence[LabelledMerge]
    known: KnownFeatures

    def questions(self, split: Split, rho: float) -> tuple[tuple[tuple[LabelledMerge, ...], Evidence], ...]:
        """Return the merges that a split tests at `rho`, by state, and what is known of them in that state.

        A merge that was measured in no state of the split is left out.
        """
        found: dict[int, list[tuple[LabelledMerge, Evidence]]] = {}
        for labelled in self.merges:
            members = labelled.merge.members
            if split.tests(members, labelled.merge.recipe.operator):
                states = enumerate(split.states(members, rho))
                known = ((place, self.known.evidence(members, state)) for place, state in states)
                first = next(((place, one) for place, one in known if one is not None), None)
                if first is not None:
                    found.setdefault(first[0], []).append((labelled, first[1]))
        return tuple((tuple(one for one, _ in asked), _union([one for _, one in asked])) for asked in found.values())


def _union(parts: Sequence[Evidence]) -> Evidence:
    """Return all evidence in one; parts of one state agree wherever they overlap."""
    return Evidence(
        adapters={name: one for part in parts for name, one in part.adapters.items()},
        pairs={names: one for part in parts for names, one in part.pairs.items()},
    )


def without(records: Records, split: Split) -> Records:
    """Return the records that a split trains on: nothing of what is left out, in whatever role."""

    def is_known(names: Sequence[str]) -> bool:
        return split.left_out.isdisjoint(names)

    return replace(
        records,
        adapters=tuple(one for one in records.adapters if is_known((one.name,))),
        labels=tuple(one for one in records.labels if split.trains((*one.members, one.adapter), one.operator)),
        adapter_features=tuple(one for one in records.adapter_features if is_known(one.names)),
        pair_features=tuple(one for one in records.pair_features if is_known(one.names)),
    )


def try_predictors(
    data: PredictorData,
    options: FitOptions,
    splits: Sequence[Split],
    rhos: Sequence[float],
    on_split: Callable[[], None] = lambda: None,
) -> Tried:
    """Fit a predictor to what each split leaves, and ask it whatever the split tests."""
    judged: dict[float, list[Judged]] = {rho: [] for rho in rhos}
    by_pairs: dict[float, list[Judged]] = {rho: [] for rho in rhos}
    gains: dict[float, list[GainForecast]] = {rho: [] for rho in rhos}
    too_few = []
    for split in splits:
        try:
            predictor = fit(without(data.records, split), options)
        except TooFewLabels:
            too_few.append(split.name)
        else:
            for rho in rhos:
                for merges, evidence in data.questions(split, rho):
                    asked = _Asked(data, predictor, evidence, split)
                    judged[rho] += asked.whole(merges)
                    by_pairs[rho] += asked.by_pairs(merges)
                gains[rho] += _gains(data, predictor, split, rho)
        on_split()
    return Tried(
        judged={rho: Judgements(tuple(rows)) for rho, rows in judged.items()},
        by_pairs={rho: Judgements(tuple(rows)) for rho, rows in by_pairs.items()},
        gains={rho: tuple(rows) for rho, rows in gains.items()},
        too_few=tuple(too_few),
    )


class _Asked:
    """A predictor and the evidence of one state; members are named by their revisions, as a predictor knows them."""

    def __init__(self, data: PredictorData, predictor: Predictor, evidence: Evidence, split: Split) -> None:
        self._revision = {adapter.name: adapter.revision for adapter in data.records.adapters}
        self._predictor, self._split = predictor, split
        self._evidence = Evidence(
            adapters={self._revision[name]: one for name, one in evidence.adapters.items()},
            pairs={(self._revision[a], self._revision[b]): one for (a, b), one in evidence.pairs.items()},
        )

    def whole(self, merges: Sequence[LabelledMerge]) -> list[Judged]:
        """Forecast merges as the predictor does."""
        found = self._forecast([labelled.merge for labelled in merges])
        return [Judged(one, forecast, self._split.stratum) for one, forecast in zip(merges, found, strict=True)]

    def by_pairs(self, merges: Sequence[LabelledMerge]) -> list[Judged]:
        """Forecast plain sets as the least that any of their pairs keeps, under the same recipe; pairs as they are."""
        plain = [one for one in merges if len(one.merge.members) == 2 or one.merge.recipe.action == PLAIN]
        pairs = [_pairs(one.merge) for one in plain]
        found = iter(self._forecast([pair for own in pairs for pair in own]))
        return [
            Judged(one, _least(one.merge.members, [next(found) for _ in own]), self._split.stratum)
            for one, own in zip(plain, pairs, strict=True)
        ]

    def _forecast(self, merges: Sequence[Merge]) -> list[Forecast]:
        renamed = [replace(merge, members=tuple(self._revision[name] for name in merge.members)) for merge in merges]
        found = self._predictor.forecast(renamed, self._evidence)
        return [replace(one, members=merge.members) for one, merge in zip(found, merges, strict=True)]


def _pairs(merge: Merge) -> list[Merge]:
    if len(merge.members) == 2:
        return [merge]
    return [Merge(pair, replace(merge.recipe, weights=None, pruned=None)) for pair in combinations(merge.members, 2)]


def _least(members: tuple[str, ...], pairs: Sequence[Forecast]) -> Forecast:
    """Return what pairs foretell of a set, each member beside the partner that it keeps least beside."""
    retention, bound = (
        tuple(
            min(getattr(pair, field)[pair.members.index(name)] for pair in pairs if name in pair.members)
            for name in members
        )
        for field in ("retention", "lower_bound")
    )
    return Forecast(
        members=members,
        retention=retention,
        lower_bound=bound,
        macro=math.fsum(retention) / len(members),
        worst=min(retention),
        worst_lower_bound=min(pair.worst_lower_bound for pair in pairs),
        safe_probability=min(pair.safe_probability for pair in pairs),
        group=pairs[0].group,
        num_labels=min(pair.num_labels for pair in pairs),
    )


def _gains(data: PredictorData, predictor: Predictor, split: Split, rho: float) -> list[GainForecast]:
    ceilings = Ceilings(data.records)
    found = []
    for name in sorted(split.left_out):
        evidence = data.known.adapters.get((name, rho))
        measured = ceilings.normalised_gain(name)
        if evidence is not None and np.isfinite(measured):
            found.append(GainForecast(name, predictor.gain(evidence), measured))
    return found
