"""Figures that need more than one label: the ceiling U*, the normalised gain G (Eq. 1), and both sides of a pair.

References
----------
MergeProbe, arXiv 2606.19549, Eq. 1-3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from probe.bank.records import AdapterRecord, Label, Records

EPSILON = 1e-6
"""Least denominator of Eq. 1, in units of the score."""
SAFE_COMPATIBILITY = 0.6
"""gamma: least M of a safe pair."""

RowSet = tuple[str, str, str]


class Ceilings:
    """Best single-adapter scores, by evaluation set.

    Scores are compared on as many rows as all that were asked this set have in common.
    """

    def __init__(self, records: Records) -> None:
        self._sets = {adapter.name: row_set(adapter) for adapter in records.adapters}
        domains = {adapter.name: adapter.domain for adapter in records.adapters}
        singles: dict[RowSet, dict[tuple[str, ...], Label]] = {}
        for label in records.labels:
            own = domains[label.adapter]
            # Adapters of other domains are asked too, for what merging does to safety; their scores are no ceiling.
            if label.action == "single" and domains.get(label.members[0], own) == own:
                singles.setdefault(self._sets[label.adapter], {})[label.members] = label
        self._own = {name: singles.get(own, {}).get((name,)) for name, own in self._sets.items()}
        self._num_rows = {own: min(label.num_rows for label in found.values()) for own, found in singles.items()}
        self._best = {
            own: max(_mean(label.merged_scores[: self._num_rows[own]]) for label in found.values())
            for own, found in singles.items()
        }

    def best(self, adapter: str) -> float:
        """Return U*_i; NaN where no adapter was asked these rows alone."""
        return self._best.get(self._sets[adapter], math.nan)

    def normalised_gain(self, adapter: str) -> float:
        """Return G_i of Eq. 1, at most 1; NaN where the adapter was not asked its rows alone."""
        own = self._own[adapter]
        if own is None:
            return math.nan
        count = self._num_rows[self._sets[adapter]]
        base = _mean(own.base_scores[:count])
        return (_mean(own.merged_scores[:count]) - base) / max(EPSILON, self.best(adapter) - base)


def row_set(adapter: AdapterRecord) -> RowSet:
    """Return what tells evaluation sets apart."""
    return adapter.domain, adapter.mix, adapter.row_set


PairKey = tuple[tuple[str, ...], str]
"""Members and operator."""


def plain_pairs(records: Records) -> Mapping[PairKey, tuple[Label, Label]]:
    """Return both labels of every pair that was merged plainly, where both are sound."""
    sides: dict[PairKey, list[Label]] = {}
    for label in records.labels:
        if label.action == "merge" and len(label.members) == 2 and label.is_sound:
            sides.setdefault((label.members, label.operator), []).append(label)
    return {key: (found[0], found[1]) for key, found in sides.items() if len(found) == 2}


def _mean(scores: tuple[float, ...]) -> float:
    return math.fsum(scores) / len(scores)
