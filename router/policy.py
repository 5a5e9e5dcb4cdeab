"""Algorithm 1 for sets of adapters: every action, operator and recipe is forecast, and the best feasible one wins.

An argmax and no cascade: merge, reweight and prune compete by the score of the plan; where none is feasible, the set is
routed, that is, its members stay separate.

References
----------
MergeProbe, arXiv 2606.19549, Algorithm 1; Appendix H for pruning.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from probe.plan_score import group_gain
from router.bank_state import Settings
from router.forecasts import Forecasts, GroupForecast
from router.ledger import Members
from router.recipes import plain_recipes, reweighted, without_part
from router.records import Recipe

MAX_PRUNED_PARTS = 3
"""Pruning removes "a small number" of parts (Appendix H); what takes more is no localised conflict."""
REACH = 0.25
"""Worst retention below the target up to which other weights or pruning are considered: what falls shorter is no mild
or localised conflict, and is routed (Section 4)."""


@dataclass(frozen=True, slots=True, eq=False)
class Option:
    """A recipe, and what is forecast of it.

    Attributes
    ----------
    worst, worst_bound
        The smallest point forecast of a member, and the smallest lower bound.
    """

    recipe: Recipe
    forecast: GroupForecast
    worst: float
    worst_bound: float

    def is_feasible(self, target: float) -> bool:
        """Say whether the lower bound of every member passes a target."""
        return self.worst_bound >= target

    def is_hopeful(self, target: float) -> bool:
        """Say whether the point forecast of every member passes a target."""
        return self.worst >= target


closeness = attrgetter("worst_bound", "worst")
"""Sorting key of options, higher = closer to passing."""

Options = Mapping[Members, tuple[Option, ...]]
"""What is known of each set; empty where nothing is forecast."""


def best_action(options: Iterable[Option], weights: Mapping[str, float], settings: Settings) -> Option | None:
    """Return the feasible recipe with the best score; None is the action route: none is feasible, or none beats it.

    Parameters
    ----------
    weights
        Member -> w of the score.
    """
    best, best_gain = None, 0.0
    for option in options:
        if option.is_feasible(settings.target_retention):
            gain = group_gain(option.forecast.retention, weights, settings.lambda_cost)
            if gain > best_gain:  # the first of equals, so that a plain merge beats what is no better
                best, best_gain = option, gain
    return best


@dataclass(frozen=True, slots=True)
class Policy:
    """Forecasts the recipes of many sets at once.

    Attributes
    ----------
    ranks
        Revision -> rank.
    """

    settings: Settings
    forecasts: Forecasts
    ranks: Mapping[str, int]

    def merged(self, sets: Iterable[Members]) -> Options:
        """Return the plain merges of each set: every operator, all weights 1."""
        return self._ask({members: plain_recipes(members, self.ranks, self.settings) for members in sets})

    def reworked(self, merged: Options, by_every_operator: bool) -> Options:
        """Return, for sets within reach of the target, reweighted recipes, and the closest merge pruned step by step.

        Parameters
        ----------
        merged
            What `merged` returned for them.
        by_every_operator
            Whether to reweight every merge; else only the one that comes closest to passing, and to prune it only where
            that is not enough.
        """
        near = {m: options for m, options in merged.items() if any(self.is_near(option) for option in options)}
        closest = {members: max(options, key=closeness) for members, options in near.items()}
        bases = near if by_every_operator else {members: (option,) for members, option in closest.items()}
        other_weights = self._ask({m: [new for one in bases[m] for new in reweighted(one.recipe)] for m in near})
        pruned = self._pruned(closest if by_every_operator else self._still_failing(closest, other_weights))
        return {members: other_weights[members] + pruned.get(members, ()) for members in near}

    def is_near(self, option: Option) -> bool:
        """Say whether a merge is within reach of the target, so that it may be worth reworking."""
        return option.worst >= self.settings.target_retention - REACH

    def _still_failing(self, merged: Mapping[Members, Option], reworked: Options) -> dict[Members, Option]:
        target = self.settings.target_retention
        passes = {members: any(one.is_feasible(target) for one in options) for members, options in reworked.items()}
        return {members: option for members, option in merged.items() if not passes[members]}

    def forecasts_of(self, recipes: Sequence[Recipe]) -> Sequence[GroupForecast | None]:
        """Return what is forecast of single recipes, in order; None where nothing is."""
        return self.forecasts.groups(recipes)

    def _pruned(self, merged: Mapping[Members, Option]) -> Options:
        """Drop parts from a merge of each set, the most conflicting first, until its worst member passes."""
        open_sets = {members: option for members, option in merged.items() if not self._is_enough(option)}
        parts = {m: tuple(self.forecasts.conflicts(sorted(m)))[:MAX_PRUNED_PARTS] for m in open_sets}
        found: dict[Members, tuple[Option, ...]] = {}
        for step in range(MAX_PRUNED_PARTS):
            answered = self._ask(
                {
                    members: [without_part(option.recipe, parts[members][step])]
                    for members, option in open_sets.items()
                    if step < len(parts[members])
                }
            )
            open_sets = {}
            for members, options in answered.items():
                found[members] = found.get(members, ()) + options
                if options and not self._is_enough(options[0]):
                    open_sets[members] = options[0]
        return found

    def _is_enough(self, option: Option) -> bool:
        """Say whether pruning may end: the bound passes, or the point forecast where there is no bound."""
        value = option.worst_bound if math.isfinite(option.worst_bound) else option.worst
        return value >= self.settings.target_retention

    def _ask(self, recipes: Mapping[Members, Sequence[Recipe]]) -> dict[Members, tuple[Option, ...]]:
        """Forecast all recipes in one go; those of which nothing is known are left out."""
        every = [recipe for of_set in recipes.values() for recipe in of_set]
        answers = iter(self.forecasts.groups(every))
        answered = {}
        for members, of_set in recipes.items():
            answered[members] = tuple(
                Option(recipe, forecast, min(forecast.retention.values()), min(forecast.lower_bound.values()))
                for recipe, forecast in [(recipe, next(answers)) for recipe in of_set]
                if forecast is not None
            )
        return answered
