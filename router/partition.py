"""Search for the best-scoring partition of a bank into verified groups; what is in no group stays separate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from router.records import Recipe, Verdict

EXACT_LIMIT = 12
"""Adapters up to which every partition is considered: 2^12 subsets take milliseconds."""


@dataclass(frozen=True, slots=True)
class Group:
    """A merge that was measured to pass. Equality is equality of all fields.

    Attributes
    ----------
    members
        Revisions.
    gain
        What merging adds to the plan's score: lambda_cost for each module saved, less the retention lost.
    verdict
        The measurement that vouches for it.
    """

    members: frozenset[str]
    gain: float
    verdict: Verdict

    @property
    def recipe(self) -> Recipe:
        """The recipe that was measured."""
        return self.verdict.recipe

    @property
    def order(self) -> tuple[float, tuple[str, ...], str]:
        """Sorting key, best gain first; ties go by content, so that renaming adapters changes nothing."""
        return -self.gain, tuple(sorted(self.members)), self.recipe.key


Partition = tuple[Group, ...]
"""Disjoint groups."""


def gain_of(partition: Sequence[Group]) -> float:
    """Return a partition's score less that of keeping every adapter separate."""
    return sum(group.gain for group in partition)


def best_partition(groups: Sequence[Group]) -> Partition:
    """Return the disjoint groups with the largest total gain: exact up to `EXACT_LIMIT` adapters, else greedy."""
    useful = sorted((group for group in groups if group.gain > 0), key=lambda group: group.order)
    members = sorted({member for group in useful for member in group.members})
    return _exact(useful, members) if len(members) <= EXACT_LIMIT else _greedy(useful)


def _exact(groups: Sequence[Group], members: Sequence[str]) -> Partition:
    """Decide the members one after another: each stays separate, or leads a group of members still undecided."""

    @cache
    def best(undecided: frozenset[str]) -> Partition:
        if not undecided:
            return ()
        first = min(undecided)
        options = [best(undecided - {first})]
        fitting = (group for group in groups if first in group.members <= undecided)
        options.extend((group, *best(undecided - group.members)) for group in fitting)
        return max(options, key=gain_of)  # the first of equals, hence deterministic

    return best(frozenset(members))


def _greedy(groups: Sequence[Group]) -> Partition:
    chosen: list[Group] = []
    taken: set[str] = set()
    for group in groups:
        if taken.isdisjoint(group.members):
            chosen.append(group)
            taken |= group.members
    return tuple(chosen)
