"""Weights-only affinities of adapter pairs, measured once for each pair of revisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations

from probe.adapter_io import read_adapter
from probe.all_pairs import all_pairs
from probe.profiles import AdapterProfile, profile_of
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
            self._compare(sorted(frozenset().union(*missing)))
        return {pair: self._known[pair] for pair in pairs}

    def _compare(self, revisions: list[str]) -> None:
        signals = all_pairs([self._profile(revision) for revision in revisions])
        cosine, overlap = signals.cosine, signals.overlap_above_chance
        for (i, first), (j, second) in combinations(enumerate(revisions), 2):
            self._known[frozenset((first, second))] = PairAffinity(float(cosine[i, j]), float(overlap[i, j]))

    def _profile(self, revision: str) -> AdapterProfile:
        return profile_of(read_adapter(self.store.adapter_path(revision)))
