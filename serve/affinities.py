"""Weights-only affinities of adapter pairs, measured once for each pair of revisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations

from probe.adapter_io import read_adapter
from probe.signals import pairwise
from router.planner import PairAffinity
from router.store import Store

Pair = frozenset[str]


@dataclass(frozen=True, slots=True)
class Affinities:
    """Cosine and subspace overlap of stored revisions; both are functions of immutable content, so kept for good."""

    store: Store
    _known: dict[Pair, PairAffinity] = field(default_factory=dict)

    def of(self, revisions: Iterable[str]) -> Mapping[Pair, PairAffinity]:
        """Return the affinity of every pair of different revisions."""
        pairs = [frozenset(pair) for pair in combinations(sorted(set(revisions)), 2)]
        missing = [pair for pair in pairs if pair not in self._known]
        if missing:
            updates = {name: read_adapter(self.store.adapter_path(name)) for name in frozenset().union(*missing)}
            for pair, signals in pairwise(updates).items():
                self._known[pair] = PairAffinity(signals.cosine, signals.overlap_above_chance)
        return {pair: self._known[pair] for pair in pairs}
