"""Measure the features of a bank: adapters, and the pairs that were merged, at every share of training known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from itertools import combinations
from typing import Any

import numpy as np

from probe.bank.labelling.calibrating import adapter_folder, fractions, trajectory
from probe.bank.labelling.entry import content_of
from probe.bank.labelling.journal import Journal
from probe.bank.labelling.members import Member
from probe.bank.labelling.pool import Call, Pool, Progress
from probe.bank.labelling.workplace import Workplace
from probe.bank.records import FeatureRow, Label
from probe.features import (
    ADAPTER_COLUMNS,
    DIRECTED_COLUMNS,
    SYMMETRIC_COLUMNS,
    Column,
    Features,
    adapter_features,
    pair_features,
)
from probe.profiles import Shift
from probe.profiling import Profiler

FEATURES_FILE = "features.jsonl"
SHIFTS_FILE = "shifts.jsonl"

Pair = tuple[str, str]
"""Names, ascending."""
ShiftKey = tuple[str, str, float]
"""Who moves, on whose rows, at which share of training."""


class FeatureJournal:
    """Features and shifts measured so far, without those of adapters that have changed since, or of another plan."""

    def __init__(self, place: Workplace, members: Mapping[str, Member]) -> None:
        self._features, self._shifts = Journal(place.work / FEATURES_FILE), Journal(place.work / SHIFTS_FILE)
        self._place, self._members = place, members
        self.rows: dict[tuple[tuple[str, ...], float], FeatureRow] = {}
        self.shifts: dict[ShiftKey, Shift] = {}
        for fields in self._features:
            self._keep_features(fields)
        for fields in self._shifts:
            self._keep_shifts(fields)

    def append(self, row: FeatureRow) -> None:
        """Keep features, on disk first."""
        fields = {"names": row.names, "rho": row.rho, "values": row.values, "of": self._of(row.names)}
        self._features.append(fields)
        self._keep_features(fields)

    def append_shifts(self, owner: str, rho: float, found: Mapping[str, Shift]) -> None:
        """Keep what others do to the rows of one adapter, on disk first."""
        shifts = {name: asdict(shift) for name, shift in found.items()}
        fields = {"owner": owner, "rho": rho, "shifts": shifts, "of": self._of((owner, *found))}
        self._shifts.append(fields)
        self._keep_shifts(fields)

    def _of(self, names: Iterable[str]) -> dict[str, Any]:
        """Return what the features of these adapters depend on."""
        contents = {name: content_of(self._members[name]) for name in names if name in self._members}
        return contents | {"": [self._place.spec.calibration_rows, self._place.spec.shift_rows]}

    def _keep_features(self, fields: Mapping[str, Any]) -> None:
        names = tuple(fields["names"])
        if fields["of"] == self._of(names):
            self.rows[names, fields["rho"]] = FeatureRow(names, fields["rho"], fields["values"])

    def _keep_shifts(self, fields: Mapping[str, Any]) -> None:
        owner, rho, shifts = fields["owner"], fields["rho"], fields["shifts"]
        if fields["of"] == self._of((owner, *shifts)):
            self.shifts |= {(name, owner, rho): _shift(shift) for name, shift in shifts.items()}

    def of_adapters(self) -> tuple[FeatureRow, ...]:
        """Return the rows of single adapters, sorted."""
        return tuple(row for key, row in sorted(self.rows.items()) if len(key[0]) == 1)

    def of_pairs(self) -> tuple[FeatureRow, ...]:
        """Return the rows of pairs, sorted."""
        return tuple(row for key, row in sorted(self.rows.items()) if len(key[0]) == 2)


def measure_features(
    place: Workplace,
    members: Mapping[str, Member],
    labels: Iterable[Label],
    pool: Pool,
    on_progress: Progress,
) -> FeatureJournal:
    """Measure what is missing: adapters first, then pairs that were merged as such, then pairs within larger sets."""
    journal = FeatureJournal(place, members)
    _measure_adapters(place, members, journal, pool, on_progress)
    for pairs in _pairs_of(labels):
        _measure_shifts(place, members, journal, pairs, pool, on_progress)
        _measure_pairs(place, members, journal, pairs, pool, on_progress)
    return journal


def _pairs_of(labels: Iterable[Label]) -> tuple[list[Pair], list[Pair]]:
    sets = {label.members for label in labels if len(label.members) > 1}
    merged = sorted((names[0], names[1]) for names in sets if len(names) == 2)
    within = {(first, second) for names in sets for first, second in combinations(names, 2)}
    return merged, sorted(within - set(merged))


def _measure_adapters(
    place: Workplace, members: Mapping[str, Member], journal: FeatureJournal, pool: Pool, on_progress: Progress
) -> None:
    missing = {
        name: [rho for rho in fractions(member) if ((name,), rho) not in journal.rows]
        for name, member in members.items()
    }
    calls: list[Call] = [(place, members[name], tuple(rhos)) for name, rhos in missing.items() if rhos]
    shown = partial(on_progress, "features of adapters")
    _keep(journal, pool.results(features_of_adapter, calls), len(members) - len(calls), len(members), shown)


def _measure_shifts(
    place: Workplace,
    members: Mapping[str, Member],
    journal: FeatureJournal,
    pairs: Sequence[Pair],
    pool: Pool,
    on_progress: Progress,
) -> None:
    wanted: dict[tuple[str, float], list[str]] = {}
    for first, second in pairs:
        for mover, owner in ((first, second), (second, first)):
            for rho in common_fractions(members[first], members[second]):
                if (mover, owner, rho) not in journal.shifts:
                    wanted.setdefault((owner, rho), []).append(mover)
    calls: list[Call] = [
        (place, members[owner], rho, tuple(members[name] for name in movers)) for (owner, rho), movers in wanted.items()
    ]
    on_progress("shifts", 0, len(calls))
    for done, (owner, rho, found) in enumerate(pool.results(shifts_on, calls), start=1):
        journal.append_shifts(owner, rho, found)
        on_progress("shifts", done, len(calls))


def _measure_pairs(
    place: Workplace,
    members: Mapping[str, Member],
    journal: FeatureJournal,
    pairs: Sequence[Pair],
    pool: Pool,
    on_progress: Progress,
) -> None:
    calls: list[Call] = []
    for first, second in pairs:
        known = common_fractions(members[first], members[second])
        if any(((first, second), rho) not in journal.rows for rho in known):
            ways = ((first, second), (second, first))
            found = {(*way, rho): journal.shifts[*way, rho] for way in ways for rho in known}
            calls.append((place, members[first], members[second], found))
    shown = partial(on_progress, "features of pairs")
    _keep(journal, pool.results(features_of_pair, calls), len(pairs) - len(calls), len(pairs), shown)


def _keep(
    journal: FeatureJournal,
    results: Iterable[list[FeatureRow]],
    done: int,
    total: int,
    shown: Callable[[int, int], None],
) -> None:
    """Append rows as they come, of which `done` of `total` are there already."""
    shown(done, total)
    for count, rows in enumerate(results, start=done + 1):
        for row in rows:
            journal.append(row)
        shown(count, total)


def common_fractions(first: Member, second: Member) -> tuple[float, ...]:
    """Return the shares of training at which both are known; the last one is 1."""
    return tuple(rho for rho in fractions(first) if rho in fractions(second))


def features_of_adapter(place: Workplace, member: Member, rhos: Sequence[float]) -> list[FeatureRow]:
    """Return the features of an adapter at shares of its training, each from what was known then."""
    rows = []
    for rho in rhos:
        path = trajectory(_profiler(place), member, rho, place.spec.calibration_rows)
        rows.append(FeatureRow((member.name,), rho, _values("", ADAPTER_COLUMNS, adapter_features(path))))
    return rows


def shifts_on(
    place: Workplace, owner: Member, rho: float, movers: Sequence[Member]
) -> tuple[str, float, dict[str, Shift]]:
    """Return what others do to the rows of one adapter, all of them as they were at a share of their training."""
    others = {mover.name: adapter_folder(mover, rho) for mover in movers}
    own = adapter_folder(owner, rho)
    return owner.name, rho, _profiler(place).shifts(others, own, owner.calibration, place.spec.shift_rows)


def features_of_pair(
    place: Workplace, first: Member, second: Member, shifts: Mapping[ShiftKey, Shift]
) -> list[FeatureRow]:
    """Return the features of a pair at every share of training at which both are known."""
    profiler, num_rows, names = _profiler(place), place.spec.calibration_rows, (first.name, second.name)
    rows = []
    for rho in common_fractions(first, second):
        found = pair_features(
            trajectory(profiler, first, rho, num_rows),
            trajectory(profiler, second, rho, num_rows),
            shifts[first.name, second.name, rho],
            shifts[second.name, first.name, rho],
        )
        values = _values("symmetric:", SYMMETRIC_COLUMNS, found.symmetric)
        values |= _values("forth:", DIRECTED_COLUMNS, found.forth) | _values("back:", DIRECTED_COLUMNS, found.back)
        rows.append(FeatureRow(names, rho, values))
    return rows


@lru_cache(maxsize=1)
def _profiler(place: Workplace) -> Profiler:
    return place.profiler()


def _values(prefix: str, columns: Sequence[Column], features: Features) -> dict[str, float]:
    """Return named values, float32 as the records keep them."""
    numbers = features.values.astype(np.float32).tolist()
    return {f"{prefix}{column.name}": value for column, value in zip(columns, numbers, strict=True)}


def _shift(fields: Mapping[str, Any]) -> Shift:
    """Make a shift from JSON values, whose keys are texts."""
    of_base, of_own = ({int(k): v for k, v in fields[name].items()} for name in ("of_base", "of_own"))
    return Shift(of_base, of_own, fields["num_rows"])
