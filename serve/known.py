"""What is known of some adapters and pairs, turned into what a predictor asks and what a planner is told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from probe.damage import layers_of_most
from probe.explanation import layers_in_words
from probe.layers import BANDS, band_of
from probe.operators import OPERATORS
from probe.operators.recipe import band_of_module
from probe.predictors.forecast import Evidence, Forecast, Merge, MergeRecipe
from probe.predictors.predictor import Predictor
from probe.records import Weight
from probe.vectors import Vector
from router.forecasts import ConflictPart, GroupForecast
from router.records import Recipe
from serve.signals.evidence import AdapterMeasured, PairMeasured


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Signals of adapters by revision, and of pairs by (first, second) in ascending order."""

    adapters: Mapping[str, AdapterMeasured]
    pairs: Mapping[tuple[str, str], PairMeasured]

    @property
    def evidence(self) -> Evidence:
        """The same as a predictor reads it."""
        return Evidence(
            {revision: one.evidence for revision, one in self.adapters.items()},
            {pair: one.features for pair, one in self.pairs.items()},
        )

    def covers(self, recipe: Recipe) -> bool:
        """Say whether a recipe can be forecast, and could be carried out: some operators read calibrated profiles."""
        reads_data = bool(OPERATORS[recipe.operator].needs)
        return (
            all(member in self.adapters for member in recipe.members)
            and all(pair in self.pairs for pair in combinations(sorted(recipe.members), 2))
            and not (reads_data and any(self.adapters[member].profile is None for member in recipe.members))
            and not any(part.component is not None for part in recipe.pruned)
        )

    def merge(self, recipe: Recipe) -> Merge:
        """Return a covered recipe as a predictor asks it."""
        pruned = tuple(self._pruned_shares(recipe, place) for place in range(len(recipe.members)))
        weights = tuple(map(_mean_weight, recipe.weights))
        return Merge(
            recipe.members,
            MergeRecipe(
                operator=recipe.operator,
                norm=recipe.norm,
                rank=recipe.rank,
                weights=weights if len(set(weights)) > 1 else None,
                pruned=pruned if recipe.pruned else None,
            ),
        )

    def group_forecast(self, recipe: Recipe, forecast: Forecast) -> GroupForecast:
        """Return a forecast as a planner is told it."""
        return GroupForecast(
            retention=dict(zip(recipe.members, forecast.retention, strict=True)),
            lower_bound=dict(zip(recipe.members, forecast.lower_bound, strict=True)),
            safe_probability=forecast.safe_probability,
            note=self._note(recipe.members),
        )

    def conflicts(self, members: Sequence[str]) -> list[ConflictPart]:
        """Return layer bands of members, the one first that hurts the other members' tasks most.

        The least harmful band of each member is not among them, so that something of it is left.
        """
        if not all(member in self.adapters for member in members):
            return []
        damage = {member: self._damage_by_band(member, members) for member in members}
        total = math.fsum(value for bands in damage.values() for value in bands.values())
        if total <= 0:
            return []
        parts = []
        for member, bands in damage.items():
            ordered = sorted(bands, key=lambda band: (-bands[band], band))
            parts += [ConflictPart(member, self._modules(member)[band], bands[band] / total) for band in ordered[:-1]]
        return sorted(parts, key=lambda part: (-part.share, part.member, part.modules))

    def _damage(self, first: str, second: str) -> Vector:
        """Return (layers,), how much the first one's update hurts the second one's task; empty where unknown."""
        measured = self.pairs.get((min(first, second), max(first, second)))
        return np.empty(0) if measured is None else measured.damage[0 if first < second else 1]

    def _damage_by_band(self, member: str, members: Sequence[str]) -> dict[str, float]:
        bands = dict.fromkeys(self._modules(member), 0.0)
        for other in members:
            damage = self._damage(member, other) if other != member else np.empty(0)
            for layer, value in enumerate(damage.tolist()):
                if value:
                    bands[band_of(layer, len(damage))] += value
        return bands

    def _modules(self, member: str) -> dict[str, tuple[str, ...]]:
        """Return layer band -> the modules that an adapter changes there, without bands in which it changes none."""
        measured = self.adapters[member]
        bands = {module: band_of_module(module, measured.num_layers) for module in measured.modules}
        own = {band: tuple(module for module in measured.modules if bands[module] == band) for band in BANDS}
        return {band: modules for band, modules in own.items() if modules}

    def _pruned_shares(self, recipe: Recipe, place: int) -> Mapping[str, float]:
        dropped = {part.module for part in recipe.pruned if part.member == place}
        own = self._modules(recipe.members[place])
        shares = {band: len(dropped & set(modules)) / len(modules) for band, modules in own.items()}
        return {band: share for band, share in shares.items() if share > 0}

    def _note(self, members: Sequence[str]) -> str:
        """Say where the members of a pair hurt each other; larger groups are nobody's neighbours in a reason."""
        if len(members) > 2:
            return ""
        damage = [one for one in (self._damage(*members), self._damage(*reversed(members))) if len(one)]
        layers = layers_of_most(np.sum(damage, axis=0)) if damage else ()
        return f"conflict mostly in {layers_in_words(layers)}" if layers else ""


@dataclass(frozen=True, slots=True)
class KnownForecasts:
    """`router.forecasts.Forecasts` over what is known of some adapters, once and for all."""

    predictor: Predictor
    known: Known

    def version(self, revision: str) -> str:
        """Return a token that never changes, as nothing here does."""
        return revision

    def neighbours(self, revision: str) -> Sequence[str]:
        """Return the adapters that one was compared with."""
        return sorted(other for pair in self.known.pairs if revision in pair for other in pair if other != revision)

    def groups(self, recipes: Sequence[Recipe]) -> Sequence[GroupForecast | None]:
        """Return a forecast for each recipe, None where it is not covered (`Known.covers`)."""
        covered = [self.known.covers(recipe) for recipe in recipes]
        merges = [self.known.merge(recipe) for recipe, is_known in zip(recipes, covered, strict=True) if is_known]
        answers = iter(self.predictor.forecast(merges, self.known.evidence) if merges else ())
        return [
            self.known.group_forecast(recipe, next(answers)) if is_known else None
            for recipe, is_known in zip(recipes, covered, strict=True)
        ]

    def conflicts(self, members: Sequence[str]) -> Sequence[ConflictPart]:
        """Return layer bands of members by how much they hurt the others' tasks."""
        return self.known.conflicts(members)


def _mean_weight(weight: Weight) -> float:
    return math.fsum(weight) / len(weight) if isinstance(weight, tuple) else weight
