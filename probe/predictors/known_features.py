"""Features of records by what they are of, and the states of knowledge in which a merge can be forecast from them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from probe.bank.records import FeatureRow, Records
from probe.features import ADAPTER_COLUMNS, DIRECTED_COLUMNS, SYMMETRIC_COLUMNS, Column
from probe.predictors.forecast import AdapterEvidence, Evidence
from probe.vectors import Features, PairFeatures, Vector

FINAL = 1.0
"""rho of a finished adapter."""

Rhos = tuple[float, ...]
"""Share of training seen, one a member."""
Names = Sequence[str]
PairKey = tuple[str, str, float, float]
"""Both names, then both shares of training."""


class KnownFeatures:
    """Features by (name, rho), and by both names and both rhos."""

    def __init__(self, records: Records) -> None:
        self.adapters = {(row.names[0], row.rhos[0]): _adapter(row) for row in records.adapter_features}
        self._rows: dict[PairKey, FeatureRow] = {
            (row.names[0], row.names[1], row.rhos[0], row.rhos[1]): row for row in records.pair_features
        }
        # A row holds some hundred columns: turned into features when one is asked for, and once.
        self._pairs: dict[PairKey, PairFeatures] = {}
        self._rhos = sorted({row.rhos[0] for row in records.adapter_features} | {FINAL})

    def states(self, members: Names, newcomer: str | None = None) -> Iterator[tuple[Rhos, Evidence]]:
        """Yield what was known of a merge: all at one share of training, and one new among finished ones.

        Parameters
        ----------
        newcomer
            The only member that may be new; None is each in turn.
        """
        for rhos in self._candidates(members, newcomer):
            evidence = self.evidence(members, rhos)
            if evidence is not None:
                yield rhos, evidence

    def _candidates(self, members: Names, newcomer: str | None) -> list[Rhos]:
        found: list[Rhos] = [
            tuple(rho if (name, rho) in self.adapters else FINAL for name in members) for rho in self._rhos
        ]
        for place, name in enumerate(members):
            if newcomer in (None, name):
                alone = (tuple(rho if k == place else FINAL for k in range(len(members))) for rho in self._rhos)
                found += alone
        return sorted(set(found), reverse=True)

    def evidence(self, members: Names, rhos: Rhos) -> Evidence | None:
        """Return what was known of a merge with each member at its share of training; None where any part is not."""
        known = list(zip(members, rhos, strict=True))
        keys = [self._measured(*pair) for pair in combinations(known, 2)]
        if any(one not in self.adapters for one in known) or None in keys:
            return None
        return Evidence(
            adapters={name: self.adapters[name, rho] for name, rho in known},
            pairs={key[:2]: self._pair(key) for key in keys if key is not None},
        )

    def _measured(self, first: tuple[str, float], second: tuple[str, float]) -> PairKey | None:
        """Return the key of a pair, whichever way it was measured."""
        ways = ((a, b, r, s) for (a, r), (b, s) in ((first, second), (second, first)))
        return next((key for key in ways if key in self._rows), None)

    def _pair(self, key: PairKey) -> PairFeatures:
        if key not in self._pairs:
            self._pairs[key] = _pair(self._rows[key])
        return self._pairs[key]


def newcomer_of(members: Names, seed: int) -> str:
    """Draw the member that counts as new wherever one must be chosen; the same for every recipe of these members."""
    return random.Random(f"newcomer {seed} {sorted(members)}").choice(sorted(members))  # noqa: S311 - a draw, not a key


def _adapter(row: FeatureRow) -> AdapterEvidence:
    return AdapterEvidence(_values(row, "", ADAPTER_COLUMNS), row.rhos[0])


def _pair(row: FeatureRow) -> PairFeatures:
    return PairFeatures(
        forth=Features(_values(row, "forth:", DIRECTED_COLUMNS), {}),
        back=Features(_values(row, "back:", DIRECTED_COLUMNS), {}),
        symmetric=Features(_values(row, "symmetric:", SYMMETRIC_COLUMNS), {}),
    )


def _values(row: FeatureRow, prefix: str, columns: Sequence[Column]) -> Vector:
    return np.array([row.values.get(prefix + column.name, math.nan) for column in columns])
