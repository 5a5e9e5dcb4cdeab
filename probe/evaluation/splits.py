"""Splits: which merges a predictor may learn from, which it is tested on, and who is seen early; data, not code paths.

A split leaves out adapters, a domain or an operator. What it trains on has none of them, whatever the roles: a pair of
which one side is left out would tell of that side.

References
----------
MergeProbe, arXiv 2606.19549, Appendix B, "Prediction regimes".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

from probe.bank.records import AdapterRecord
from probe.predictors.known_features import FINAL, Rhos, newcomer_of

SEED = 0
"""Of the draw of newcomers."""


class Regime(StrEnum):
    """What is new to the predictor."""

    BANK_AWARE = "bank-aware"
    COLD_START = "cold-start"
    DOMAIN = "transfer, domain out"
    OPERATOR = "transfer, operator out"


@dataclass(frozen=True, slots=True)
class Split:
    """One fold of a regime.

    Attributes
    ----------
    regime, name
        The name says what is left out.
    left_out
        Adapters that nothing is learnt from.
    operator
        An operator that nothing is learnt from; None is none.
    apart
        Cold start: groups of the left out adapters within which merges are tested in another split. Empty elsewhere.
    """

    regime: Regime
    name: str
    left_out: frozenset[str]
    operator: str | None = None
    apart: tuple[frozenset[str], ...] = ()

    def trains(self, members: Collection[str], operator: str) -> bool:
        """Say whether a merge may be learnt from."""
        return operator != self.operator and self.left_out.isdisjoint(members)

    def tests(self, members: Collection[str], operator: str) -> bool:
        """Say whether a merge is forecast and compared with what was measured; never one that is learnt from.

        Where several members could be the new one, one is drawn, so that every merge is tested once in a regime.
        """
        if self.regime is Regime.OPERATOR:
            return operator == self.operator
        if self.regime is Regime.COLD_START:
            return self.left_out.issuperset(members) and not any(group.issuperset(members) for group in self.apart)
        return newcomer_of(tuple(members), SEED) in self.left_out

    @property
    def stratum(self) -> str:
        """What tested merges have in common that those of other splits of the regime must not be compared with."""
        return self.operator or ""

    def states(self, members: Sequence[str], rho: float) -> Iterator[Rhos]:
        """Yield how much of each member's training a test at `rho` sees, in order of preference.

        First as the regime says: all of it where the bank knows the adapter. Then all at `rho`: a bank keeps its early
        checkpoints, and a new adapter can be compared with them.
        """
        has_bank = self.regime in (Regime.BANK_AWARE, Regime.DOMAIN)
        yield tuple(FINAL if has_bank and name not in self.left_out else rho for name in members)
        yield (rho,) * len(members)


def leave_out(groups: Sequence[frozenset[str]]) -> tuple[Split, ...]:
    """Return one bank-aware split a group of adapters: new ones against a bank that is known.

    Two of one group are both new where they are merged with each other.
    """
    return tuple(Split(Regime.BANK_AWARE, _named(group), group) for group in groups)


def _named(group: frozenset[str]) -> str:
    first = min(group)
    return first if len(group) == 1 else f"{first} and {len(group) - 1} more"


def cold_start(groups: Sequence[frozenset[str]]) -> tuple[Split, ...]:
    """Return one split a pair of groups; every pair of adapters is tested in exactly one.

    A group's own merges are tested where it is left out with the next one, the last with the first. Merges of more than
    two groups are not tested: too little would be left to learn from.
    """
    count = len(groups)
    splits = []
    for (first, one), (second, other) in combinations(enumerate(groups), 2):
        home = {place for place in (first, second) if {place, (place + 1) % count} == {first, second}}
        apart = tuple(group for place, group in ((first, one), (second, other)) if place not in home)
        name = f"groups {first + 1} and {second + 1}"
        splits.append(Split(Regime.COLD_START, name, one | other, apart=apart))
    return tuple(splits)


def leave_domain_out(domains: Mapping[str, str]) -> tuple[Split, ...]:
    """Return one split a domain; `domains` is adapter -> domain."""
    return tuple(
        Split(Regime.DOMAIN, domain, frozenset(name for name, own in domains.items() if own == domain))
        for domain in sorted(set(domains.values()))
    )


def leave_operator_out(operators: Iterable[str]) -> tuple[Split, ...]:
    """Return one split an operator; the same adapters are seen under the other operators."""
    return tuple(Split(Regime.OPERATOR, name, frozenset(), name) for name in sorted(set(operators)))


def together(adapters: Iterable[AdapterRecord]) -> tuple[frozenset[str], ...]:
    """Return the smallest groups that may be left out: an adapter alone, or all that share a seed or a preference."""
    groups: dict[tuple[bool, str], set[str]] = {}
    for adapter in adapters:
        key = (False, adapter.name) if adapter.group is None else (True, adapter.group)
        groups.setdefault(key, set()).add(adapter.name)
    return tuple(sorted(map(frozenset, groups.values()), key=min))


def as_groups(folds: Mapping[str, int]) -> tuple[frozenset[str], ...]:
    """Return the adapters of each fold (`probe.predictors.folds.adapter_folds`)."""
    numbers = sorted(set(folds.values()))
    return tuple(frozenset(name for name, own in folds.items() if own == number) for number in numbers)
