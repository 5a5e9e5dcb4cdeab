"""Which groups to measure next where nothing is forecast: an order of work, never a forecast of retention."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations, islice

from router.bank_state import PairAffinity, Settings
from router.ledger import Ledger, Members
from router.partition import Group, Partition, gain_of
from router.recipes import plain_recipes
from router.records import Adapter, Recipe, Trial


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
    ledger
        What was measured so far.
    held_by
        Revision -> the group that serves it.
    """

    mergeable: Mapping[str, Adapter]
    ledger: Ledger
    held_by: Mapping[str, Group]
    affinity: Mapping[Members, PairAffinity]
    settings: Settings

    def propose(self) -> tuple[Trial, ...]:
        """Return the next trials, at most `max_trials`.

        First groups that would save a module over the plan, then those that could only keep more of their gains;
        within each, pairs before larger groups, then by the affinity of the least compatible pair.
        """
        pairs = {frozenset(pair) for pair in combinations(self.mergeable, 2)}
        failed = {pair for pair in pairs if pair not in self.ledger.passed_sets and not self._untried(pair)}
        groups = (pairs - failed) | self._larger_groups(failed)
        ordered = sorted(filter(self._could_improve, groups), key=self._order)
        worthwhile = (self._trial(group) for group in ordered if self._untried(group))
        return tuple(islice(worthwhile, self.settings.max_trials))

    def _larger_groups(self, failed: set[Members]) -> set[Members]:
        """Join every passed group with each further adapter and each other passed group."""
        passed = self.ledger.passed_sets
        others = passed | {frozenset([revision]) for revision in self.mergeable}
        unions = {one | other for one in passed for other in others if one.isdisjoint(other)}
        return {union for union in unions if failed.isdisjoint(map(frozenset, combinations(union, 2)))}

    def _could_improve(self, members: Members) -> bool:
        if (
            len(members) > self.settings.max_group_size
            or members in self.ledger.passed_sets
            or self.ledger.is_out(members)
        ):
            return False
        at_best = self.settings.lambda_cost * (len(members) - 1)
        return at_best - gain_of(overlapping(members, self.held_by)) > self.settings.hysteresis

    def _order(self, members: Members) -> tuple[bool, bool, float, tuple[str, ...]]:
        is_saving = num_saved(members, self.held_by) > 0
        return not is_saving, len(members) > 2, -self._weakest(members), tuple(sorted(members))

    def _weakest(self, members: Members) -> float:
        return min(self._score(pair) for pair in combinations(members, 2))

    def _score(self, pair: Iterable[str]) -> float:
        affinity = self.affinity.get(frozenset(pair))
        return -math.inf if affinity is None else affinity.score

    def _untried(self, members: Members) -> tuple[Recipe, ...]:
        ranks = {member: self.mergeable[member].rank for member in members}
        return self.ledger.untried(members, plain_recipes(members, ranks, self.settings))

    def _trial(self, members: Members) -> Trial:
        saved, weakest = num_saved(members, self.held_by), self._weakest(members)
        affinity = "not measured" if weakest == -math.inf else f"{weakest:.2f}"
        return Trial(
            adapters=tuple(sorted(self.mergeable[member].name for member in members)),
            recipes=self._untried(members),
            reason=f"Merging them {aim(saved)}; agreement less collision of the least compatible pair: {affinity}.",
        )


def holders(partition: Partition) -> dict[str, Group]:
    """Return member -> the group that holds it."""
    return {member: group for group in partition for member in group.members}


def overlapping(members: Members, held_by: Mapping[str, Group]) -> list[Group]:
    """Return the groups that share a member with a set, each once."""
    return list(dict.fromkeys(held_by[member] for member in sorted(members) if member in held_by))


def num_saved(members: Members, held_by: Mapping[str, Group]) -> int:
    """Count the modules that a group would save beyond those that a partition saves already."""
    return len(members) - 1 - sum(len(group.members) - 1 for group in overlapping(members, held_by))


def aim(saved: int) -> str:
    """Say what merging a group would bring: modules saved, or only more retention."""
    return f"would save {saved} module{'s' * (saved > 1)}" if saved > 0 else "could keep more of the gains"
