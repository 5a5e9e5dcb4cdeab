"""Signals: numbers measured on a pair of updates, from their factors alone.

An adapter is summarised once (`summarise`), then pairs are compared cheaply. Every signal is a function of the
updates only: re-gauging the factors, (B G, G^-1 A), changes nothing. How to add one: write a function of two
summaries, add a row to `SIGNALS`; the contract test in `tests/probe/test_signals.py` runs every row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from probe.factors import LoraUpdate
from probe.signals.geometry import cosine, norm_ratio
from probe.signals.signal import Signal
from probe.signals.subspace import overlap_in, overlap_out
from probe.signals.summary import Summary, summarise

__all__ = ["SIGNALS", "PairSignals", "Signal", "Summary", "pair_signals", "pairwise", "summarise"]

SIGNALS: Mapping[str, Signal] = {
    row.key: row
    for row in (
        Signal(
            key="cosine",
            function=cosine,
            bounds=(-1.0, 1.0),
            direction="over 0.7 the sum over-amplifies, under -0.2 it cancels",
            source="Frobenius cosine of updates, arXiv 2606.19549, Section 3",
        ),
        Signal(
            key="norm_ratio",
            function=norm_ratio,
            bounds=(0.0, 1.0),
            direction="lower = the longer update drowns the shorter",
            source="arXiv 2606.19549, Section 3",
        ),
        Signal(
            key="overlap_in",
            function=overlap_in,
            bounds=(-1.0, 1.0),
            direction="higher = more collision in what the updates read",
            source="Omega_A of arXiv 2606.19549, Section 3, less chance",
        ),
        Signal(
            key="overlap_out",
            function=overlap_out,
            bounds=(-1.0, 1.0),
            direction="higher = more collision in what the updates write",
            source="Omega_B of arXiv 2606.19549, Section 3, less chance",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class PairSignals:
    """Every signal of one pair; NaN where it is undefined (a zero update, or no module in common)."""

    cosine: float
    norm_ratio: float
    overlap_in: float
    overlap_out: float

    @property
    def overlap_above_chance(self) -> float:
        """Mean of the two overlaps, -1..1, 0 = as for random subspaces; higher = more collision."""
        return (self.overlap_in + self.overlap_out) / 2


def pair_signals(first: Summary, second: Summary) -> PairSignals:
    """Measure every signal on one pair; symmetric."""
    return PairSignals(**{key: signal.function(first, second) for key, signal in SIGNALS.items()})


def pairwise(updates: Mapping[str, LoraUpdate]) -> dict[frozenset[str], PairSignals]:
    """Measure every pair of a bank, keyed by the pair's two keys (revisions); for up to about a hundred adapters."""
    summaries = {key: summarise(update) for key, update in updates.items()}
    return {
        frozenset(pair): pair_signals(summaries[pair[0]], summaries[pair[1]]) for pair in combinations(summaries, 2)
    }
