"""Features arranged as pair matrices: one (victim, other) matrix a column, so that renaming adapters is an index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from probe.bank.records import FeatureRow, Records
from probe.bank.report.statistics import Vector
from probe.signals import ADAPTER_SIGNALS, PAIR_SIGNALS, Family

_MAIN_STATISTICS = ("mean", "value")


@dataclass(frozen=True, slots=True)
class PairColumn:
    """A feature of an ordered pair (victim, other).

    Attributes
    ----------
    role
        ``pair`` (the same both ways), ``on victim`` (what the other does to the victim), ``by victim`` (the reverse),
        ``victim`` or ``other`` (of that adapter alone).
    feature
        Column of `probe.features`, such as ``cosine/lower/p90``.
    """

    role: str
    feature: str

    @property
    def name(self) -> str:
        """Name for people."""
        return self.feature if self.role == "pair" else f"{self.role}: {self.feature}"

    @property
    def family(self) -> str:
        """Family of the signal; "unknown" for a signal of another schema."""
        key = self.feature.split("/")[0]
        if "slope of" in self.feature or "variance of" in self.feature:
            return str(Family.DYNAMICS)
        table = ADAPTER_SIGNALS if self.role in ("victim", "other") else PAIR_SIGNALS
        return str(table[key].family) if key in table else "unknown"

    @property
    def is_main(self) -> bool:
        """Whether it stands for its signal: the mean over all modules (or the one value), of a pair or of the base."""
        _, group, statistic = [*self.feature.split("/"), "", ""][:3]
        is_summary = group == "all" and statistic in _MAIN_STATISTICS
        return is_summary and (self.role in ("pair", "on victim", "by victim") or self.family == Family.BASE)


@dataclass(frozen=True, slots=True, eq=False)
class PairMatrices:
    """All columns at one fraction of training.

    Attributes
    ----------
    names
        Adapters, ascending: the order of both axes.
    columns
        What each matrix holds.
    values
        (columns, adapters, adapters), entry [column, victim, other]; NaN where unknown.
    """

    names: tuple[str, ...]
    columns: tuple[PairColumn, ...]
    values: Vector

    def position(self, name: str) -> int | None:
        """Return an adapter's index; None where it has no features."""
        return self.names.index(name) if name in self.names else None

    def of(self, column: PairColumn) -> Vector | None:
        """Return a column's matrix; None where there is no such column."""
        return np.asarray(self.values[self.columns.index(column)]) if column in self.columns else None


def fractions(records: Records) -> tuple[float, ...]:
    """Return the fractions of training at which both of a pair were profiled, ascending."""
    return tuple(sorted({row.rhos[0] for row in records.pair_features if len(set(row.rhos)) == 1}))


def pair_matrices(records: Records, rho: float = 1.0) -> PairMatrices:
    """Arrange the features of adapters at one fraction of training, and of pairs both of which are there."""
    pairs = [row for row in records.pair_features if set(row.rhos) == {rho}]
    adapters = [row for row in records.adapter_features if set(row.rhos) == {rho}]
    names = tuple(sorted({name for row in (*pairs, *adapters) for name in row.names}))
    entries = [*_pair_entries(pairs), *_adapter_entries(adapters, names)]
    columns = tuple(dict.fromkeys(column for column, _, _, _ in entries))
    place, index = ({item: position for position, item in enumerate(items)} for items in (names, columns))
    values = np.full((len(columns), len(names), len(names)), np.nan)
    for column, victim, other, value in entries:
        values[index[column], place[victim], place[other]] = value
    return PairMatrices(names, columns, values)


Entry = tuple[PairColumn, str, str, float]


def _pair_entries(rows: Sequence[FeatureRow]) -> Iterator[Entry]:
    """Yield both (victim, other) readings of every entry: `forth` is what the first does to the second."""
    for row in rows:
        first, second = row.names
        ways: Mapping[str, tuple[tuple[str, str, str], ...]] = {
            "symmetric": (("pair", first, second), ("pair", second, first)),
            "forth": (("on victim", second, first), ("by victim", first, second)),
            "back": (("on victim", first, second), ("by victim", second, first)),
        }
        for key, value in row.values.items():
            way, _, feature = key.partition(":")
            for role, victim, other in ways.get(way, ()):
                yield PairColumn(role, feature.strip()), victim, other, value


def _adapter_entries(rows: Sequence[FeatureRow], names: Sequence[str]) -> Iterator[Entry]:
    for row in rows:
        (own,) = row.names
        for feature, value in row.values.items():
            for name in names:
                if name != own:
                    yield PairColumn("victim", feature), own, name, value
                    yield PairColumn("other", feature), name, own, value
