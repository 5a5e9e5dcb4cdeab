"""Which pairs of a bank are compared, at which shares of training: a pure function of the labels and of what is known.

A pair is compared as two adapters in training would be, both at one share, and as a new one meets a finished one: the
bank-aware forecast sees the new adapter at a share of its training and the others at 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from probe.bank.records import Label

FINAL = 1.0
"""Share of a finished adapter."""
MIXED_FRACTIONS = (0.10,)
"""Shares at which an adapter is compared with finished ones."""
FIRST_FRACTIONS = (0.10, FINAL)
"""Shares at which pairs are compared first; those that were merged only within larger sets at no others."""

Rhos = tuple[float, float]
"""Share of training of the first and of the second."""
Known = Sequence[float]
"""Shares of training at which an adapter is known, ascending; the last one is 1."""


@dataclass(frozen=True, slots=True)
class ComparedPair:
    """Two adapters, by name, ascending, and the shares of their training at which they are compared."""

    first: str
    second: str
    rhos: tuple[Rhos, ...]

    @property
    def names(self) -> tuple[str, str]:
        """Both names."""
        return self.first, self.second


def compared_pairs(labels: Iterable[Label], known: Mapping[str, Known]) -> tuple[list[ComparedPair], ...]:
    """Return what to compare, what matters most first.

    Pairs that were merged as such, and those that occur only within larger sets, both at the first shares; then the
    former at every share.
    """
    sets = {label.members for label in labels if len(label.members) > 1}
    merged = sorted((names[0], names[1]) for names in sets if len(names) == 2)
    within = {(first, second) for names in sets for first, second in combinations(names, 2)} - set(merged)
    few = {name: tuple(rho for rho in shares if rho in FIRST_FRACTIONS) for name, shares in known.items()}
    return (
        [_compared(pair, few) for pair in merged],
        [_compared(pair, few) for pair in sorted(within)],
        [_compared(pair, known) for pair in merged],
    )


def _compared(pair: tuple[str, str], known: Mapping[str, Known]) -> ComparedPair:
    return ComparedPair(*pair, rhos_of_pair(*(known[name] for name in pair)))


def rhos_of_pair(first: Known, second: Known) -> tuple[Rhos, ...]:
    """Return at which shares two adapters are compared: every combination where one is known at its end alone."""
    is_one_finished = len(first) == 1 or len(second) == 1
    return tuple((a, b) for a in first for b in second if a == b or is_one_finished or _is_mixed(a, b))


def _is_mixed(first: float, second: float) -> bool:
    return max(first, second) == FINAL and min(first, second) in MIXED_FRACTIONS
