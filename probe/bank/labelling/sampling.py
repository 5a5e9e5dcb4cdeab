"""Draws of pairs and sets that are spread over domains and over adapters, by one generator."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import combinations

from probe.bank.records import AdapterRecord

SIZES = (3, 4, 5)
_MAX_REDRAWS = 100
"""Draws in a row that bring nothing new before a small bank counts as exhausted."""


class Drawing:
    """Draws names, those used least first, equals in an order of chance."""

    def __init__(self, adapters: Iterable[AdapterRecord], rng: random.Random) -> None:
        self._rng = rng
        self._used: Counter[str] = Counter()
        self._domains = {adapter.name: adapter.domain for adapter in adapters}

    def domain(self, name: str) -> str:
        """Return the domain of an adapter."""
        return self._domains[name]

    def shuffled(self, items: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
        """Return items in an order of chance."""
        listed = list(items)
        self._rng.shuffle(listed)
        return listed

    def least_used(self, names: Iterable[str]) -> list[str]:
        """Return names, those used least first."""
        return sorted(names, key=lambda name: (self._used[name], self._rng.random()))

    def uses(self, names: Iterable[str]) -> int:
        """Return how often names were used together."""
        return sum(self._used[name] for name in names)

    def use(self, names: Iterable[str]) -> None:
        """Count names as used."""
        self._used.update(names)


def spread_pairs(pool: Sequence[AdapterRecord], count: int | None, drawing: Drawing) -> list[tuple[str, str]]:
    """Draw pairs from every pair of domains in turn, each time the one whose adapters were used least.

    Pairs that share the start of A are left out: they are controls.
    """
    strata: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for first, second in combinations(pool, 2):
        if first.a_seed != second.a_seed:
            strata.setdefault(tuple(sorted((first.domain, second.domain))), []).append((first.name, second.name))
    queues = [drawing.shuffled(pairs) for pairs in strata.values()]
    chosen: list[tuple[str, str]] = []
    while any(queues) and (count is None or len(chosen) < count):
        for queue in filter(None, queues):
            if count is None or len(chosen) < count:
                first_name, second_name = pair = min(queue, key=drawing.uses)
                queue.remove(pair)
                drawing.use(pair)
                chosen.append((first_name, second_name))
    return chosen


def spread_sets(
    pool: Sequence[AdapterRecord], count: int, drawing: Drawing, pairs: Iterable[tuple[str, str]] = ()
) -> list[tuple[str, ...]]:
    """Draw different sets of 3, 4 and 5 in turn; every other one takes a new domain as long as there is one.

    Parameters
    ----------
    pairs
        Pairs that are measured as such: a set takes in whoever is in most of them with those that it has, so that sets
        can be told by their own pairs, and few further pairs have to be compared.
    """
    names, known = [adapter.name for adapter in pool], {frozenset(pair) for pair in pairs}
    drawn: dict[tuple[str, ...], None] = {}
    redraws = 0
    while len(drawn) < count and redraws < _MAX_REDRAWS:
        size, spread = SIZES[(len(drawn) + redraws) % len(SIZES)], (len(drawn) + redraws) // len(SIZES) % 2 == 0
        members = tuple(sorted(_grown(drawing.least_used(names), size, known, drawing if spread else None)))
        is_new = len(members) == size and members not in drawn
        redraws = 0 if is_new else redraws + 1
        # A set seen before counts as use too, or the same names would be drawn again.
        drawing.use(members)
        if is_new:
            drawn[members] = None
    return list(drawn)


def _grown(order: Sequence[str], size: int, known: Collection[frozenset[str]], spread: Drawing | None) -> list[str]:
    """Grow a set from the first name by those in most known pairs with it, the first of equals."""
    members = list(order[:1])
    while len(members) < min(size, len(order)):
        rest = [name for name in order if name not in members]
        if spread:
            met = {spread.domain(name) for name in members}
            rest = [name for name in rest if spread.domain(name) not in met] or rest
        members.append(max(rest, key=lambda name: sum(frozenset((name, one)) in known for one in members)))
    return members


def one_of_each_domain(pool: Sequence[AdapterRecord], count: int, drawing: Drawing) -> list[tuple[str, ...]]:
    """Draw different sets with one adapter of every domain of the pool; none where there is only one domain."""
    domains = sorted({adapter.domain for adapter in pool})
    drawn: dict[tuple[str, ...], None] = {}
    for _ in range(count * _MAX_REDRAWS if len(domains) > 1 else 0):
        names = [drawing.least_used(a.name for a in pool if a.domain == domain)[0] for domain in domains]
        drawing.use(names)
        drawn.setdefault(tuple(sorted(names)))
        if len(drawn) == count:
            break
    return list(drawn)
