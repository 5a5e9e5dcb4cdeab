"""Which groups to measure next: an order of work, never a forecast of retention."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations, islice

from probe.operators import output_rank
from router.bank_state import MAX_RECIPES, PairAffinity, Settings
from router.partition import Group, Partition
from router.records import Adapter, Recipe, Trial

Members = frozenset[str]
"""Revisions of a group."""


@dataclass(frozen=True, slots=True)
class TrialSearch:
    """Finds the groups that are worth a measurement.

    A group is worth one if it has untried recipes, none that passed, no pair of which every recipe failed, and if it
    would improve the plan *were it to keep everything*: an upper bound on its worth, which only serves to skip
    measurements that could not matter.

    Attributes
    ----------
    mergeable
        Revision -> adapter, for the adapters that may be merged.
    passed
        Members of every group whose measurement passed.
    chosen
        The groups that the plan serves.
    tried
        Keys of all recipes that have a verdict.
    num_measured
        Recipes of a group that were measured on its gate rows; those that could not even be built do not count.
    """

    mergeable: Mapping[str, Adapter]
    passed: frozenset[Members]
    chosen: Partition
    tried: frozenset[str]
    num_measured: Mapping[Members, int]
    affinity: Mapping[Members, PairAffinity]
    settings: Settings

    def propose(self) -> tuple[Trial, ...]:
        """Return the next trials, at most `max_trials`.

        First groups that would save a module over the plan, then those that could only keep more of their gains;
        within each, pairs before larger groups, then by the affinity of the least compatible pair.
        """
        pairs = {frozenset(pair) for pair in combinations(self.mergeable, 2)}
        failed = {pair for pair in pairs if pair not in self.passed and not self._untried(pair)}
        groups = (pairs - failed) | self._larger_groups(failed)
        ordered = sorted(filter(self._could_improve, groups), key=self._order)
        worthwhile = (self._trial(group) for group in ordered if self._untried(group))
        return tuple(islice(worthwhile, self.settings.max_trials))

    def _larger_groups(self, failed: set[Members]) -> set[Members]:
        """Join every passed group with each further adapter and each other passed group."""
        others = self.passed | {frozenset([revision]) for revision in self.mergeable}
        unions = {one | other for one in self.passed for other in others if one.isdisjoint(other)}
        return {union for union in unions if failed.isdisjoint(map(frozenset, combinations(union, 2)))}

    def _could_improve(self, members: Members) -> bool:
        if len(members) > self.settings.max_group_size or members in self.passed:
            return False
        at_best = self.settings.lambda_cost * (len(members) - 1)
        displaced = sum(group.gain for group in self._overlapping(members))
        return at_best - displaced > self.settings.hysteresis

    def _order(self, members: Members) -> tuple[bool, bool, float, tuple[str, ...]]:
        return self._num_saved(members) <= 0, len(members) > 2, -self._weakest(members), tuple(sorted(members))

    def _num_saved(self, members: Members) -> int:
        """Count the modules that the group would save beyond those that the plan saves already."""
        return len(members) - 1 - sum(len(group.members) - 1 for group in self._overlapping(members))

    def _overlapping(self, members: Members) -> list[Group]:
        return [group for group in self.chosen if not members.isdisjoint(group.members)]

    def _weakest(self, members: Members) -> float:
        return min(self._score(pair) for pair in combinations(members, 2))

    def _score(self, pair: Iterable[str]) -> float:
        affinity = self.affinity.get(frozenset(pair))
        return -math.inf if affinity is None else affinity.score

    def _untried(self, members: Members) -> tuple[Recipe, ...]:
        """Return the recipes still to try, in order: never more than the group's gate rows may yet be looked at."""
        num_left = max(0, MAX_RECIPES - self.num_measured.get(members, 0))
        return tuple(islice((recipe for recipe in self._recipes(members) if recipe.key not in self.tried), num_left))

    def _recipes(self, members: Members) -> list[Recipe]:
        ordered = tuple(sorted(members))
        weights = (1.0,) * len(ordered)
        rank = output_rank(max(self.mergeable[member].rank for member in ordered), self.settings.output_ranks)
        return [Recipe(operator, ordered, weights, norm, rank) for operator, norm in self.settings.recipes]

    def _trial(self, members: Members) -> Trial:
        num_saved, weakest = self._num_saved(members), self._weakest(members)
        saving = f"would save {num_saved} module{'s' * (num_saved > 1)}"
        aim = saving if num_saved > 0 else "could keep more of the gains"
        affinity = "not measured" if weakest == -math.inf else f"{weakest:.2f}"
        return Trial(
            adapters=tuple(sorted(self.mergeable[member].name for member in members)),
            recipes=self._untried(members),
            reason=f"Merging them {aim}; agreement less collision of the least compatible pair: {affinity}.",
        )
