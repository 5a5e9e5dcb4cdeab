"""Weighted set packing: which disjoint sets have the largest total weight. Knows nothing of adapters.

Exact for few elements by dynamic programming over subsets, and mostly so for some dozens by branch and bound (HiGHS).
For more, the linear relaxation decides whatever it is sure of, again and again on what is left (a dive), and windows of
a few elements are then solved exactly until none can be improved. Deterministic: no limit is one of time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_matrix

SURE = 1 - 1e-6
"""Share of a set in the relaxation's solution from which on it is taken."""
DIVE_SHARE = 0.05
"""Of the sets that the relaxation takes in part, those that are taken before it is solved again: fewer is better and
slower. On 1,000 simulated adapters a twentieth comes within 0.7 % of the relaxation's bound, all at once within 2 %."""
MAX_PER_ELEMENT = 5
"""Sets of one size with one element that are considered in a large problem, the heaviest first."""
MAX_BRANCHED, MAX_NODES = 40, 1000
"""Elements up to which branch and bound is tried, and its nodes before it is given up."""
ROUNDING = 1e-9
"""An improvement smaller than this could be one of rounding, and go round in circles."""


class WeightedSet(NamedTuple):
    """Elements that go together, and what that is worth, > 0."""

    elements: frozenset[str]
    weight: float


Packing = tuple[int, ...]
"""Places of the chosen sets, ascending."""


def exact_packing(sets: Sequence[WeightedSet]) -> Packing:
    """Return the disjoint sets with the largest total weight; the time doubles with every element."""
    elements = sorted({element for one in sets for element in one.elements})
    bit = {element: 1 << place for place, element in enumerate(elements)}
    led_by: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for place, one in enumerate(sets):
        mask = sum(bit[element] for element in one.elements)
        led_by[mask & -mask].append((mask, place))

    @cache
    def best(undecided: int) -> tuple[float, Packing]:
        """Leave the first undecided element out, or take a set that it leads."""
        if not undecided:
            return 0.0, ()
        first = undecided & -undecided
        found = best(undecided ^ first)
        for mask, place in led_by.get(first, ()):
            if mask & undecided == mask:
                weight, others = best(undecided ^ mask)
                if weight + sets[place].weight > found[0]:  # the first of equals stays
                    found = weight + sets[place].weight, (place, *others)
        return found

    return tuple(sorted(best((1 << len(elements)) - 1)[1]))


def near_packing(sets: Sequence[WeightedSet], window: int, start: Iterable[int] = ()) -> Packing:
    """Return disjoint sets of nearly the largest total weight: none is better that differs within one window only.

    Parameters
    ----------
    window
        Elements that are decided anew together.
    start
        Places of disjoint sets to begin with, such as a good packing of most of the sets.
    """
    begun = list(start)
    places = _heaviest(sets, begun)
    few = [sets[place] for place in places]
    found = _branched(few)
    if found is None:
        found = _dived(few, [places.index(place) for place in begun])
    return tuple(places[place] for place in _Windows(few, window).improved(found))


def upper_bound(sets: Sequence[WeightedSet]) -> float:
    """Return a weight that no packing exceeds: that of the linear relaxation."""
    return float(np.dot([one.weight for one in sets], _relaxed(sets))) if sets else 0.0


def greedy_packing(sets: Sequence[WeightedSet], order: Iterable[int]) -> list[int]:
    """Return the places, taken in an order, of sets that touch none of those before."""
    chosen: list[int] = []
    taken: set[str] = set()
    for place in order:
        if taken.isdisjoint(sets[place].elements):
            chosen.append(place)
            taken |= sets[place].elements
    return chosen


def _heaviest(sets: Sequence[WeightedSet], always: Iterable[int]) -> list[int]:
    """Return the places of the sets that are among the heaviest few of their size with one of their elements."""
    counts: defaultdict[tuple[int, str], int] = defaultdict(int)
    kept = set(always)
    for place in sorted(range(len(sets)), key=lambda place: -sets[place].weight):
        keys = [(len(sets[place].elements), element) for element in sets[place].elements]
        if any(counts[key] < MAX_PER_ELEMENT for key in keys):
            kept.add(place)
            for key in keys:
                counts[key] += 1
    return sorted(kept)


def _dived(sets: Sequence[WeightedSet], start: Sequence[int]) -> Packing:
    """Add to disjoint sets what the relaxation is sure of, again and again on what is left."""
    chosen, taken = list[int](), list(start)
    left = list(range(len(sets)))
    while True:
        chosen += taken
        gone = frozenset[str]().union(*(sets[place].elements for place in taken))
        left = [place for place in left if gone.isdisjoint(sets[place].elements)]
        if not left:
            return tuple(sorted(chosen))
        share = _relaxed([sets[place] for place in left])
        order = [int(index) for index in np.argsort(-share.round(6), kind="stable") if share[index] > 1 - SURE]
        num_sure = int((share > SURE).sum())
        num_partly = max(1, int(DIVE_SHARE * (len(order) - num_sure)))
        taken = greedy_packing(sets, (left[index] for index in order[: num_sure + num_partly]))


def _branched(sets: Sequence[WeightedSet]) -> Packing | None:
    """Return the best packing by branch and bound; None where that is too large, or would take too long."""
    holds = _incidence(sets)
    if not sets or holds.shape[0] > MAX_BRANCHED:
        return None
    solved = milp(
        -np.array([one.weight for one in sets]),
        constraints=LinearConstraint(holds, ub=1),
        integrality=np.ones(len(sets)),
        bounds=Bounds(0, 1),
        options={"node_limit": MAX_NODES},
    )
    return tuple(np.flatnonzero(solved.x > 0.5).tolist()) if solved.status == 0 else None


def _incidence(sets: Sequence[WeightedSet]) -> csr_matrix:
    """Return (elements, sets), 1 where a set holds an element."""
    elements = sorted({element for one in sets for element in one.elements})
    row = {element: place for place, element in enumerate(elements)}
    rows = [row[element] for one in sets for element in sorted(one.elements)]
    columns = np.repeat(np.arange(len(sets)), [len(one.elements) for one in sets])
    return csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(elements), len(sets)))


def _relaxed(sets: Sequence[WeightedSet]) -> NDArray[np.float64]:
    """Solve the linear relaxation: what share of each set to take, (n,) in [0, 1]."""
    holds, weights = _incidence(sets), np.array([one.weight for one in sets])
    solved = linprog(-weights, A_ub=holds, b_ub=np.ones(holds.shape[0]), bounds=(0, None), method="highs")
    assert solved.status == 0, f"a packing has a bounded, feasible relaxation: {solved.message}"
    share: NDArray[np.float64] = solved.x
    return share


class _Windows:
    """Improves a packing, one window of elements after another."""

    def __init__(self, sets: Sequence[WeightedSet], size: int) -> None:
        self._sets, self._size = sets, size
        self._with: defaultdict[str, list[int]] = defaultdict(list)
        near: defaultdict[str, dict[str, None]] = defaultdict(dict)  # a set that keeps its order
        for place in sorted(range(len(sets)), key=lambda place: -sets[place].weight):
            elements = sorted(sets[place].elements)
            for element in elements:
                self._with[element].append(place)
                near[element].update(dict.fromkeys(elements))
        self._near = {element: tuple(others) for element, others in near.items()}

    def improved(self, start: Packing) -> Packing:
        """Return a packing that no window can improve."""
        holder = {element: place for place in start for element in self._sets[place].elements}
        waiting = dict.fromkeys(sorted(self._with))
        while waiting:
            anchor = next(iter(waiting))
            window = self._window(anchor, holder)
            inside = self._inside(window)
            old = {holder[element] for element in window if element in holder}
            new = [inside[place] for place in exact_packing([self._sets[place] for place in inside])]
            if self._weight(new) <= self._weight(old) + ROUNDING:
                for element in self._block(anchor, holder):  # the others of its set would get much the same window
                    waiting.pop(element, None)
                continue
            for element in window:
                holder.pop(element, None)
            holder.update({element: place for place in new for element in self._sets[place].elements})
            waiting.update(dict.fromkeys(sorted(window)))
        return tuple(sorted(set(holder.values())))

    def _weight(self, places: Iterable[int]) -> float:
        return sum(self._sets[place].weight for place in sorted(places))

    def _block(self, element: str, holder: Mapping[str, int]) -> frozenset[str]:
        return self._sets[holder[element]].elements if element in holder else frozenset([element])

    def _window(self, anchor: str, holder: Mapping[str, int]) -> set[str]:
        """Return an element and those that share sets with it, the heaviest first, in whole sets of the packing."""
        window: set[str] = set()
        queue, queued = [anchor], {anchor}
        for element in queue:  # it grows as it is walked
            block = self._block(element, holder)
            if element in window or len(window) + len(block) > self._size:
                continue
            window |= block
            for near in (near for own in sorted(block) for near in self._near[own] if near not in queued):
                queued.add(near)
                queue.append(near)
        return window

    def _inside(self, window: set[str]) -> list[int]:
        found = {place for element in window for place in self._with[element] if self._sets[place].elements <= window}
        return sorted(found)
