"""Forecasts of merges, in batches: point, one-sided bound and probability of safety.

Every merge is read in the view that its errors were measured in: what a view does not know is blanked, so that a
forecast and its bound belong together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from probe.predictors.artefact import Artefact, read_artefact, write_artefact
from probe.predictors.calibration import Calibration, ViewCalibration
from probe.predictors.card import Card
from probe.predictors.conformal import narrowest
from probe.predictors.design import Side, blanked, design, oriented, pair_values, sides_of
from probe.predictors.forecast import AdapterEvidence, Evidence, Forecast, Merge, MergeRecipe
from probe.predictors.schema import SIGNALS, Missing, Schema
from probe.predictors.set_inputs import PairMatrix, Question
from probe.predictors.set_model import forecasts_of_pair
from probe.predictors.temperature import probability
from probe.predictors.views import COLD_START, View, closest, view_of
from probe.vectors import Vector

SHIPPED_PREDICTOR = Path(__file__).parents[1] / "bank" / "data" / "predictor"
"""The predictor that comes with the package, fitted to the shipped records."""
CHUNK = 2048
"""Rows of the design that are held at once."""
UNMEASURED = ViewCalibration({}, {}, 1.0)
"""Of a view in which nothing was measured: no bound."""

SideKey = tuple[object, ...]
"""Equal keys are equal rows of the design."""


class Predictor:
    """A fitted predictor; it holds no state but what was fitted."""

    def __init__(self, artefact: Artefact) -> None:
        self.artefact = artefact
        self._known = frozenset(artefact.card.revisions)

    @classmethod
    def load(cls, folder: Path) -> Predictor:
        """Read a predictor from its folder.

        Raises
        ------
        ArtefactMissing, DamagedArtefact, SchemaMismatch
            There is none, it is not what was written, or it reads other columns than this version measures.
        """
        return cls(read_artefact(folder))

    @property
    def card(self) -> Card:
        """What it was fitted on, and how well it forecast held-out adapters."""
        return self.artefact.card

    def forecast(self, merges: Sequence[Merge], evidence: Evidence) -> tuple[Forecast, ...]:
        """Forecast merges, in their order.

        Raises
        ------
        EvidenceMissing
            A member, or a pair of members, is not in the evidence.
        SchemaMismatch
            Features have other columns than the predictor reads.
        """
        views = self._views(merges, evidence)
        matrices = self._pair_forecasts(merges, views, evidence)
        is_set = [len(merge.members) > 2 for merge in merges]
        found = self.artefact.sets(
            [
                Question(merge, evidence, SIGNALS[view.signals], matrix)
                for merge, view, matrix, own in zip(merges, views, matrices, is_set, strict=True)
                if own
            ]
        )
        sets = iter(zip(found.retention, found.margin.tolist(), strict=True))
        points = [
            next(sets) if own else forecasts_of_pair(matrix) for matrix, own in zip(matrices, is_set, strict=True)
        ]
        return tuple(
            self._bounded(merge, view, *point) for merge, view, point in zip(merges, views, points, strict=True)
        )

    def gain(self, adapter: AdapterEvidence) -> float:
        """Forecast G of an adapter in training; NaN where the records of the fit held no gain."""
        gains = self.artefact.gains
        return math.nan if gains is None else float(gains([adapter])[0])

    def _views(self, merges: Sequence[Merge], evidence: Evidence) -> list[View]:
        """Return the view that each merge is forecast in: the one measured that comes closest, else its own."""
        missing = _Missing(self.artefact.schema, merges, evidence)
        found = []
        for merge in merges:
            rhos = [evidence.adapters[name].rho for name in merge.members]
            num_new = sum(name not in self._known for name in merge.members)
            # What sets miss was measured in cold start alone (`probe.predictors.set_fit`).
            asked = view_of(rhos, num_new if len(merge.members) == 2 else COLD_START, missing.of(merge))
            found.append(closest(asked, self._calibration(merge)) or asked)
        return found

    def _calibration(self, merge: Merge) -> Calibration:
        return self.artefact.pair_calibration if len(merge.members) == 2 else self.artefact.set_calibration

    def _pair_forecasts(self, merges: Sequence[Merge], views: Sequence[View], evidence: Evidence) -> list[PairMatrix]:
        """Forecast all ordered pairs of every merge; what merges have in common is forecast once."""
        sides: dict[Missing, dict[SideKey, Side]] = {missing: {} for missing in SIGNALS.values()}
        wanted: list[dict[tuple[int, int], SideKey]] = []
        for merge, view in zip(merges, views, strict=True):
            keys = {}
            for place, side in sides_of(merge, evidence):
                keys[place] = _key(merge.members[place[0]], merge.members[place[1]], side.recipe)
                sides[SIGNALS[view.signals]].setdefault(keys[place], side)
            wanted.append(keys)
        found = {missing: dict(self._forecast_sides(own, missing)) for missing, own in sides.items()}
        return [
            _matrix(len(merge.members), keys, found[SIGNALS[view.signals]])
            for merge, view, keys in zip(merges, views, wanted, strict=True)
        ]

    def _forecast_sides(
        self, sides: Mapping[SideKey, Side], missing: Missing
    ) -> Iterator[tuple[SideKey, tuple[float, float]]]:
        schema, keys = self.artefact.schema, list(sides)
        for start in range(0, len(keys), CHUNK):
            chunk = keys[start : start + CHUNK]
            rows = blanked(design(schema, [sides[key] for key in chunk]), schema, missing)
            forecasts = self.artefact.pairs(rows)
            yield from zip(
                chunk, zip(forecasts.retention.tolist(), forecasts.margin.tolist(), strict=True), strict=True
            )

    def _bounded(self, merge: Merge, view: View, retention: Vector, margin: float) -> Forecast:
        own = self._calibration(merge).get(view, UNMEASURED)
        group, radius = narrowest(own.member, merge.recipe.action, merge.recipe.operator)
        _, worst_radius = narrowest(own.worst, merge.recipe.action, merge.recipe.operator)
        return Forecast(
            members=merge.members,
            retention=tuple(retention.tolist()),
            lower_bound=tuple((retention - radius.value).tolist()),
            macro=float(retention.mean()),
            worst=float(retention.min()),
            worst_lower_bound=float(retention.min() - worst_radius.value),
            safe_probability=float(probability(margin, own.temperature)),
            group=group,
            num_labels=radius.num_labels,
        )


class _Missing:
    """What was not measured of the members of merges, looked up once an adapter and a pair."""

    def __init__(self, schema: Schema, merges: Sequence[Merge], evidence: Evidence) -> None:
        names = sorted({name for merge in merges for name in merge.members} & set(evidence.adapters))
        pairs = sorted({pair for merge in merges for pair in combinations(sorted(merge.members), 2)})
        self._of: dict[object, Missing] = {}
        if pairs:
            rows = np.array([pair_values(oriented(evidence.pairs, *pair)) for pair in pairs])
            self._of |= dict(zip(pairs, schema.missing_of_pairs(rows), strict=True))
            values = np.array([evidence.adapters[name].values for name in names])
            self._of |= dict(zip(names, schema.missing_of_adapters(values), strict=True))

    def of(self, merge: Merge) -> Missing:
        """Return what is missing of any member or pair."""
        own = [self._of[name] for name in merge.members]
        return frozenset[str]().union(*own, *(self._of[pair] for pair in combinations(sorted(merge.members), 2)))


def _key(victim: str, other: str, recipe: MergeRecipe) -> SideKey:
    pruned = tuple(tuple(sorted(shares.items())) for shares in recipe.pruned or ())
    return victim, other, recipe.operator, recipe.norm, recipe.rank, recipe.weights, pruned


def _matrix(
    size: int, keys: Mapping[tuple[int, int], SideKey], found: Mapping[SideKey, tuple[float, float]]
) -> PairMatrix:
    retention, margin = np.full((2, size, size), math.nan)
    for place, key in keys.items():
        retention[place], margin[place] = found[key]
    return PairMatrix(retention, margin)


def write_predictor(folder: Path, predictor: Predictor) -> None:
    """Write a predictor into a folder that `Predictor.load` reads."""
    write_artefact(folder, predictor.artefact)


def default_predictor() -> Predictor:
    """Read the predictor that comes with the package.

    Raises
    ------
    ArtefactMissing
        This build has none.
    """
    return Predictor.load(SHIPPED_PREDICTOR)
