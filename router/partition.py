"""Search for the best-scoring partition of a bank into groups; what is in no group stays separate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from router.packing import WeightedSet, exact_packing, near_packing
from router.records import Recipe

EXACT_LIMIT = 12
"""Adapters up to which every partition is considered: 2^12 subsets take milliseconds."""


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """A merge that a plan could hold.

    Attributes
    ----------
    members
        Revisions.
    recipe
        How they are merged.
    gain
        What merging adds to the plan's score: lambda_cost for each module saved, less the retention lost. Of a group
        whose bound does not pass, what may be expected.
    retention, lower_bound
        Revision -> Ret and its lower bound: measured on gate rows where there is a `module`, else predicted.
    module
        Name of the module that was measured to pass; None: nothing but a forecast vouches for it.
    expected
        What measuring it may be expected to add: its gain, times the chance that it passes; 0 where it was measured.
    note
        What a person should know of the conflict; "" for nothing.
    """

    members: frozenset[str]
    recipe: Recipe
    gain: float
    retention: Mapping[str, float]
    lower_bound: Mapping[str, float]
    module: str | None = None
    expected: float = 0.0
    note: str = ""

    @property
    def order(self) -> tuple[float, tuple[str, ...], str]:
        """Sorting key, best gain first; ties go by content, so that renaming adapters changes nothing."""
        return -self.gain, self.recipe.members, self.recipe.key


Partition = tuple[Group, ...]
"""Disjoint groups."""


def gain_of(partition: Iterable[Group]) -> float:
    """Return a partition's score less that of keeping every adapter separate."""
    return sum(group.gain for group in partition)


def best_partition(groups: Iterable[Group], start: Partition = ()) -> Partition:
    """Return disjoint groups with the largest total gain: exact up to `EXACT_LIMIT` adapters, close to it beyond.

    Parameters
    ----------
    start
        A good partition by some of the groups, from which a large bank is improved: that is faster than anew.
    """
    useful = _best_of_each_set(group for group in groups if group.gain > 0)
    members = frozenset[str]().union(*(group.members for group in useful))
    sets = [WeightedSet(group.members, group.gain) for group in useful]
    if len(members) <= EXACT_LIMIT:
        return tuple(useful[place] for place in exact_packing(sets))
    place_of = {group.members: place for place, group in enumerate(useful)}
    begun = [place_of[group.members] for group in start if group.members in place_of]
    return tuple(useful[place] for place in near_packing(sets, EXACT_LIMIT, begun))


def settled(best: Partition, running: Partition, margin: float) -> Partition:
    """Change the running partition only where that pays: by more than `margin`, for each part that changes at once.

    Groups of the two that share members change together, directly or through others; each such part is decided alone,
    so that a gain in one corner of a bank does not carry through a worthless swap in another.
    """
    kept: list[Group] = []
    for old, new in _parts(running, best):
        kept.extend(new if gain_of(new) > gain_of(old) + margin else old)
    return tuple(sorted(kept, key=lambda group: group.order))


def _best_of_each_set(groups: Iterable[Group]) -> list[Group]:
    best: dict[frozenset[str], Group] = {}
    for group in groups:
        known = best.get(group.members)
        # Keys of recipes are hashes, so they are asked for only where the gains tie.
        if known is None or group.gain > known.gain or (group.gain == known.gain and group.order < known.order):
            best[group.members] = group
    return sorted(best.values(), key=lambda group: (-group.gain, group.recipe.members))


def _parts(running: Partition, best: Partition) -> list[tuple[list[Group], list[Group]]]:
    """Return the groups of both partitions by what they touch, directly or through others: (running, best) each."""
    touching: defaultdict[str, list[Group]] = defaultdict(list)
    for group in (*running, *best):
        for member in group.members:
            touching[member].append(group)
    place = {group: number for number, group in enumerate((*running, *best))}  # each once, though it be in both
    is_running, is_best, seen, parts = set(running), set(best), set[Group](), []
    for start in place:
        reached = [] if start in seen else [start]
        for group in reached:  # it grows as it is walked
            if group not in seen:
                seen.add(group)
                reached.extend(other for member in group.recipe.members for other in touching[member])
        own = sorted(set(reached), key=place.__getitem__)
        parts.append(([group for group in own if group in is_running], [group for group in own if group in is_best]))
    return parts
