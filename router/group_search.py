"""Which sets of a bank are looked at: all of a small one; of a large one those that grow from near neighbours.

A large bank's n^2 pairs, let alone its larger sets, are never forecast: each adapter is compared with a few neighbours,
and larger groups grow from the best pairs, level by level, so that a bank takes a handful of batches of forecasts.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, combinations, islice

from router.forecasts import Forecasts
from router.ledger import Members
from router.partition import EXACT_LIMIT, Partition
from router.prospects import Depth, Prospects

EVERY_SET_LIMIT = 8
"""Adapters up to which every set is looked at, by every recipe: 210 sets, some 4,000 forecasts."""
MAX_BREADTH, MIN_BREADTH = 12, 2
"""Groups of one size with an adapter that may grow, and adapters that each may grow by: many in a small bank."""
BROAD_BANK = 4000
"""Adapters times squared breadth, between its limits: as many groups grow in every bank of up to 1,000 adapters."""
MAX_SHALLOW = 8
"""Breadth up to which larger groups are looked at as plain merges only, until one is chosen: for 100 simulated adapters
that took a third of the forecasts, and found as good a plan."""
MIN_NEIGHBOURS = 6
"""Partners that each adapter is forecast with, besides as many as the breadth."""

Others = Mapping[str, set[str]]


@dataclass(frozen=True, slots=True)
class GroupSearch:
    """Looks at the sets that a plan might hold.

    Attributes
    ----------
    revisions
        Those that may be merged.
    max_size
        Most members of a group.
    """

    prospects: Prospects
    revisions: frozenset[str]
    forecasts: Forecasts
    max_size: int

    @property
    def breadth(self) -> int:
        """How many ways there are to go on from each adapter."""
        widest = math.isqrt(BROAD_BANK // max(1, len(self.revisions)))
        return max(MIN_BREADTH, min(MAX_BREADTH, widest))

    @property
    def depth(self) -> Depth:
        """How closely larger groups are looked at before one is chosen."""
        if len(self.revisions) <= EXACT_LIMIT:
            return Depth.EVERY_RECIPE
        return Depth.MERGES if self.breadth <= MAX_SHALLOW else Depth.REPAIRS

    def look_around(self) -> None:
        """Look at every set of a small bank, or at those of a large one that are worth it."""
        if len(self.revisions) <= EVERY_SET_LIMIT:
            self.look_at_all()
        else:
            self.look_near()

    def look_at_all(self) -> None:
        """Look at every set of two to `max_size` adapters."""
        ordered = sorted(self.revisions)
        sizes = range(2, min(self.max_size, len(ordered)) + 1)
        sets = map(frozenset, chain.from_iterable(combinations(ordered, size) for size in sizes))
        self.prospects.look(sets, Depth.EVERY_RECIPE)

    def look_near(self) -> None:
        """Look at the pairs of near neighbours, and at what grows from the best of them."""
        pairs = [frozenset((one, other)) for one in sorted(self.revisions) for other in self._nearest(one)]
        self.prospects.look(pairs, Depth.REPAIRS)
        level = self._promising(pairs)
        near, partners = _others(pairs), _others(level)
        for _ in range(2, self.max_size):
            grown = [group | {new} for group in self._best(level) for new in self._joining(group, near, partners)]
            self.prospects.look(grown, self.depth)
            level = self._promising(grown)

    def look_at_rest(self, partition: Partition) -> None:
        """Look at what could still take in the adapters that a partition leaves separate, closely at the nearest."""
        holder = {member: group.members for group in partition for member in group.members}
        near: list[Members] = []
        further: list[Members] = []
        for one in sorted(self.revisions - holder.keys()):
            for place, other in enumerate(self._nearest(one)):
                sets = near if place < self.breadth else further
                sets.append(frozenset((one, other)))
                if other in holder and len(holder[other]) < self.max_size:
                    sets.append(holder[other] | {one})
        self.prospects.look(further, Depth.MERGES)
        self.prospects.look(near, Depth.REPAIRS if self.breadth <= MAX_SHALLOW else Depth.EVERY_RECIPE)

    def _nearest(self, revision: str) -> list[str]:
        known = (one for one in self.forecasts.neighbours(revision) if one in self.revisions and one != revision)
        return list(islice(known, MIN_NEIGHBOURS + self.breadth))

    def _promising(self, sets: Iterable[Members]) -> list[Members]:
        return [members for members in dict.fromkeys(sets) if self.prospects.expected_gain(members) > 0]

    def _joining(self, members: Members, near: Others, partners: Others) -> list[str]:
        """Return the adapters to add to a group: those in a promising pair with most members, then the nearest."""
        neighbours = Counter(other for member in members for other in near[member] if other not in members)
        fitting = Counter(other for member in members for other in partners.get(member, ()))
        ordered = sorted(neighbours, key=lambda other: (-fitting[other], -neighbours[other], other))
        return ordered[: self.breadth]

    def _best(self, sets: Iterable[Members]) -> list[Members]:
        """Return the sets that are among the best few with one of their members."""
        counts: defaultdict[str, int] = defaultdict(int)
        kept = []
        for members in sorted(sets, key=lambda members: (-self.prospects.expected_gain(members), sorted(members))):
            if any(counts[member] < self.breadth for member in members):
                kept.append(members)
                for member in members:
                    counts[member] += 1
        return kept


def _others(pairs: Iterable[Members]) -> Others:
    """Return adapter -> those that it makes one of the pairs with."""
    others: defaultdict[str, set[str]] = defaultdict(set)
    for one, other in pairs:
        others[one].add(other)
        others[other].add(one)
    return others
