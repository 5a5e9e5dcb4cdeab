"""The records, arranged for questions: which labels are sound, which pairs are ordinary, what singles score."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from probe.bank.ceilings import Ceilings
from probe.bank.mergeability import compatibility, is_safe
from probe.bank.records import AdapterRecord, Label, Records

SAFETY = "safety"
_COLUMNS = (
    "label",
    "members",
    "size",
    "adapter",
    "other",
    "action",
    "operator",
    "domain",
    "other_domain",
    "ret",
    "normalised",
    "kept",
    "norm_ratio",
    "is_sound",
    "is_trained",
)


@dataclass(frozen=True, slots=True)
class Single:
    """An adapter alone on its own evaluation rows.

    Attributes
    ----------
    num_rows, base, own, gain_error
        Rows asked; mean scores of the base and of itself, and the standard error of their difference.
    best, normalised_gain
        U* and G of Eq. 1, on the rows that all adapters asked there have in common (`probe.bank.ceilings`).
    """

    name: str
    domain: str
    num_rows: int
    base: float
    own: float
    gain_error: float
    best: float
    normalised_gain: float

    @property
    def gain(self) -> float:
        """U_i - U_base."""
        return self.own - self.base


@dataclass(frozen=True)
class Measurements:
    """Records with the views that the sections share."""

    records: Records

    @cached_property
    def adapters(self) -> dict[str, AdapterRecord]:
        """Every adapter by its name."""
        return {adapter.name: adapter for adapter in self.records.adapters}

    @cached_property
    def domains(self) -> tuple[str, ...]:
        """Domains of the supervised adapters, ascending."""
        return tuple(sorted({adapter.domain for adapter in self.records.adapters if adapter.method == "sft"}))

    def domain(self, name: str) -> str:
        """Return an adapter's domain."""
        return self.adapters[name].domain

    @cached_property
    def labels(self) -> pd.DataFrame:
        """One row a label of a merge (not of a single adapter), sound or not, in the records' order.

        ``other`` and ``other_domain`` are the partner of a pair, None in larger sets. ``is_trained`` says whether all
        members are supervised adapters that share no A seed: neither controls, nor preference, OSRM or FlyLoRA banks.
        """
        rows = [self._row(label) for label in self.records.labels if label.action != "single"]
        return pd.DataFrame(rows, columns=list(_COLUMNS))

    @cached_property
    def sound(self) -> pd.DataFrame:
        """The labels whose single adapter gains at least 2 standard errors."""
        return self.labels[self.labels["is_sound"].astype(bool)]

    @cached_property
    def merges(self) -> pd.DataFrame:
        """Sound labels of direct merges of trained adapters: the ordinary case."""
        return where(self.sound, is_trained=True, action="merge")

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """Sound labels of direct merges of two trained adapters."""
        return where(self.merges, size=2)

    @cached_property
    def operators(self) -> tuple[str, ...]:
        """Operators over ordinary pairs, ascending."""
        return tuple(sorted(map(str, self.pairs["operator"].unique())))

    def main_operators(self) -> tuple[str, ...]:
        """Return task arithmetic and the mean, as far as they were measured over pairs."""
        return tuple(name for name in ("ta", "mean") if name in self.operators)

    @cached_property
    def both_ways(self) -> pd.DataFrame:
        """One row a pair and operator of which both directions are sound: Ret each way, M, and whether it is safe.

        M is NaN, and safety None, where the gain G of a member is unknown.
        """
        rows = []
        for (members, operator), both in self.pairs.groupby(["members", "operator"], sort=True):
            labels = dict(zip(both["adapter"], both["label"], strict=True))
            if set(labels) == set(members):
                kept = [labels[name].retention.value for name in members]
                gains = [self.ceilings.normalised_gain(name) for name in members]
                rows.append((members, operator, *kept, compatibility(kept, gains), is_safe(kept, gains)))
        columns = ["members", "operator", "first", "second", "mergeability", "is_safe"]
        return pd.DataFrame(rows, columns=columns).astype({"is_safe": object})

    @cached_property
    def singles(self) -> dict[str, Single]:
        """Adapter -> how it does alone, for the adapters whose rows were ever asked."""
        asked: dict[str, Label] = {}
        for label in self.records.labels:
            if label.adapter not in asked or label.num_rows > asked[label.adapter].num_rows:
                asked[label.adapter] = label
        return {name: self._single(asked[name]) for name in sorted(asked) if name in self.adapters}

    @cached_property
    def ceilings(self) -> Ceilings:
        """Best single-adapter scores."""
        return Ceilings(self.records)

    def shares_a_seed(self, members: Iterable[str]) -> bool:
        """Say whether two of the members started from the same A."""
        seeds = [self.adapters[name].a_seed for name in members]
        return len(set(seeds)) < len(seeds)

    def methods(self, members: Iterable[str]) -> frozenset[str]:
        """Return how the members were trained."""
        return frozenset(self.adapters[name].method for name in members)

    def _row(self, label: Label) -> tuple[object, ...]:
        others = [name for name in label.members if name != label.adapter]
        other = others[0] if len(label.members) == 2 else None
        is_trained = self.methods(label.members) == {"sft"} and not self.shares_a_seed(label.members)
        other_domain = self.domain(other) if other else None
        return (
            *(label, label.members, len(label.members), label.adapter, other, label.action, label.operator),
            *(self.domain(label.adapter), other_domain, label.retention.value, label.normalised_accuracy),
            *(label.kept_energy, label.norm_ratio, label.is_sound, is_trained),
        )

    def _single(self, label: Label) -> Single:
        return Single(
            name=label.adapter,
            domain=self.domain(label.adapter),
            num_rows=label.num_rows,
            base=float(np.mean(label.base_scores)),
            own=float(np.mean(label.single_scores)),
            gain_error=label.gain.standard_error,
            best=self.ceilings.best(label.adapter),
            normalised_gain=self.ceilings.normalised_gain(label.adapter),
        )


def where(frame: pd.DataFrame, **wanted: object) -> pd.DataFrame:
    """Return the rows whose columns hold these values."""
    keep = pd.Series(True, index=frame.index)
    for column, value in wanted.items():
        keep &= frame[column] == value
    return frame[keep]
