"""Planted forecasts: what is said of a recipe is a function given by the test; every question is noted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from router.forecasts import ConflictPart, GroupForecast
from router.records import Recipe

Kept = Callable[[Recipe], Mapping[str, float] | None]


@dataclass
class PlantedForecasts:
    """Point forecasts are `kept(recipe)`, bounds lie `radius` below."""

    kept: Kept
    radius: float = 0.03
    safe_probability: float = 0.9
    near: Mapping[str, Sequence[str]] = field(default_factory=dict)
    parts: Sequence[ConflictPart] = ()
    versions: dict[str, str] = field(default_factory=dict)
    asked: list[Recipe] = field(default_factory=list)

    def version(self, revision: str) -> str:
        return self.versions.get(revision, "")

    def neighbours(self, revision: str) -> Sequence[str]:
        return self.near.get(revision, ())

    def groups(self, recipes: Sequence[Recipe]) -> Sequence[GroupForecast | None]:
        self.asked.extend(recipes)
        return [self._forecast(recipe) for recipe in recipes]

    def conflicts(self, members: Sequence[str]) -> Sequence[ConflictPart]:
        return [part for part in self.parts if part.member in members]

    def _forecast(self, recipe: Recipe) -> GroupForecast | None:
        kept = self.kept(recipe)
        if kept is None:
            return None
        bounds = {member: value - self.radius for member, value in kept.items()}
        return GroupForecast(kept, bounds, self.safe_probability, "conflict mostly in layers 20-29")


def everyone(value: float) -> Kept:
    """Return forecasts by which every member of every merge keeps this."""
    return lambda recipe: dict.fromkeys(recipe.members, value)


def by_pairs(lost: Mapping[str, float], default: float = 0.0, operator: Mapping[str, float] | None = None) -> Kept:
    """Return forecasts by which each member loses what its pairs lose together, by letters such as "ab".

    `operator` is added to the losses of its merges, so that operators differ.
    """
    extra = operator or {}

    def kept(recipe: Recipe) -> Mapping[str, float]:
        loss = dict.fromkeys(recipe.members, extra.get(recipe.operator, 0.0))
        for one, other in combinations(recipe.members, 2):
            share = lost.get("".join(sorted((one[-1], other[-1]))), default)
            loss[one] += share
            loss[other] += share
        return {member: 1.0 - value for member, value in loss.items()}

    return kept
