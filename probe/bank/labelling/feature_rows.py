"""Measure the features of a bank: adapters, and the pairs that were merged, at every share of training known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from probe.bank.labelling.calibrating import adapter_folder, fractions, profiler_of, trajectory
from probe.bank.labelling.feature_journal import FeatureJournal, State
from probe.bank.labelling.members import Member
from probe.bank.labelling.pair_plan import ComparedPair, Rhos, compared_pairs
from probe.bank.labelling.pool import Call, Pool
from probe.bank.labelling.workplace import Workplace
from probe.bank.records import FeatureRow, Label
from probe.calibration import Displacements
from probe.features import (
    ADAPTER_COLUMNS,
    DIRECTED_COLUMNS,
    SYMMETRIC_COLUMNS,
    Column,
    Features,
    adapter_features,
    pair_features,
)
from probe.profiles import CrossTask, JointLoss
from probe.progress import OnProgress

STATES_A_CALL = 16
"""Adapters that one piece of work moves the same rows by: little is lost when it is killed, and little of it is the
base's own pass."""

CrossTasks = tuple[CrossTask, CrossTask]
"""Of the first on the second's rows, and back."""


def measure_features(
    place: Workplace,
    members: Mapping[str, Member],
    journal: FeatureJournal,
    labels: Iterable[Label],
    pool: Pool,
    on_progress: OnProgress,
) -> None:
    """Measure what is missing: adapters first, then pairs, in the order of `compared_pairs`."""
    known = {name: fractions(member) for name, member in members.items()}
    measuring = _Measuring(place, members, journal, pool, on_progress)
    measuring.adapters(known)
    for pairs in compared_pairs(labels, known):
        measuring.pairs(pairs)


@dataclass(frozen=True, slots=True)
class _Measuring:
    place: Workplace
    members: Mapping[str, Member]
    journal: FeatureJournal
    pool: Pool
    on_progress: OnProgress

    def adapters(self, known: Mapping[str, Sequence[float]]) -> None:
        """Measure adapters at the shares of training at which they are known."""
        has_row = self.journal.has_row
        missing = {name: [rho for rho in rhos if not has_row((name,), (rho,))] for name, rhos in known.items()}
        calls: list[Call] = [(self.place, self.members[name], rhos) for name, rhos in missing.items() if rhos]
        self._keep("features of adapters", self.pool.results(features_of_adapter, calls), len(calls), len(known))

    def pairs(self, pairs: Sequence[ComparedPair]) -> None:
        """Measure pairs, once it is known what each does on the rows of the other."""
        has_row = self.journal.has_row
        missing = [
            replace(pair, rhos=rhos)
            for pair in pairs
            if (rhos := tuple(rhos for rhos in pair.rhos if not has_row(pair.names, rhos)))
        ]
        self._displacements(_states(missing))
        self._losses(_meetings(missing))
        calls: list[Call] = [
            (self.place, self.members[pair.first], self.members[pair.second], self._cross_tasks(pair))
            for pair in missing
        ]
        self._keep("features of pairs", self.pool.results(features_of_pair, calls), len(calls), len(pairs))

    def _displacements(self, wanted: Mapping[str, Iterable[State]]) -> None:
        calls: list[Call] = []
        for owner, states in wanted.items():
            missing = [state for state in states if not self.journal.has_displacement(owner, state)]
            moving = [(self.members[name], rho) for name, rho in missing]
            parts = (moving[start : start + STATES_A_CALL] for start in range(0, len(moving), STATES_A_CALL))
            calls += [(self.place, self.members[owner], part) for part in parts]
        self.on_progress("shifts", 0, len(calls))
        for done, (owner, found) in enumerate(self.pool.results(displacements_on, calls), start=1):
            self.journal.append_displacements(owner, found)
            self.on_progress("shifts", done, len(calls))

    def _losses(self, wanted: Mapping[State, Iterable[State]]) -> None:
        calls: list[Call] = []
        for owner, others in wanted.items():
            missing = [other for other in others if not self.journal.has_loss(owner, other)]
            if missing:
                beside = [(self.members[name], rho) for name, rho in missing]
                calls.append((self.place, self.members[owner[0]], owner[1], beside))
        self.on_progress("losses", 0, len(calls))
        for done, (owner, found) in enumerate(self.pool.results(losses_of, calls), start=1):
            self.journal.append_losses(owner, found)
            self.on_progress("losses", done, len(calls))

    def _cross_tasks(self, pair: ComparedPair) -> dict[Rhos, CrossTasks]:
        """Return what the first does on the second's rows and back, at every combination of shares."""
        found = {}
        for rhos in pair.rhos:
            first, second = zip(pair.names, rhos, strict=True)
            found[rhos] = self.journal.cross_task(first, second), self.journal.cross_task(second, first)
        return found

    def _keep(self, doing: str, results: Iterable[list[FeatureRow]], missing: int, total: int) -> None:
        """Append rows as they come, the `missing` last of `total` pieces of work."""
        self.on_progress(doing, total - missing, total)
        for done, rows in enumerate(results, start=total - missing + 1):
            for row in rows:
                self.journal.append(row)
            self.on_progress(doing, done, total)


def _states(pairs: Iterable[ComparedPair]) -> dict[str, list[State]]:
    """Return, for the rows of every adapter, which adapters must have moved them: others, and its own."""
    wanted: dict[str, dict[State, None]] = {}
    for pair in pairs:
        for rhos in pair.rhos:
            for owner in pair.names:
                wanted.setdefault(owner, {}).update(dict.fromkeys(zip(pair.names, rhos, strict=True)))
    return {owner: list(states) for owner, states in wanted.items()}


def _meetings(pairs: Iterable[ComparedPair]) -> dict[State, list[State]]:
    """Return, for every adapter at a share of its training, which others its rows are asked beside."""
    wanted: dict[State, list[State]] = {}
    for pair in pairs:
        for rhos in pair.rhos:
            first, second = zip(pair.names, rhos, strict=True)
            wanted.setdefault(first, []).append(second)
            wanted.setdefault(second, []).append(first)
    return wanted


def features_of_adapter(place: Workplace, member: Member, rhos: Sequence[float]) -> list[FeatureRow]:
    """Return the features of an adapter at shares of its training, each from what was known then."""
    rows = []
    for rho in rhos:
        found = adapter_features(trajectory(place, member, rho))
        rows.append(FeatureRow((member.name,), (rho,), _values("", ADAPTER_COLUMNS, found)))
    return rows


def displacements_on(
    place: Workplace, owner: Member, states: Sequence[tuple[Member, float]]
) -> tuple[str, Displacements[State]]:
    """Return how far adapters, each as it was at a share of its training, move the rows of one."""
    folders = {(member.name, rho): adapter_folder(member, rho) for member, rho in states}
    return owner.name, profiler_of(place).displacements(folders, owner.calibration)


def losses_of(
    place: Workplace, owner: Member, rho: float, others: Sequence[tuple[Member, float]]
) -> tuple[State, dict[State, JointLoss]]:
    """Return what is left of an adapter's answers beside others, each as it was at a share of its training."""
    folders = {(member.name, share): adapter_folder(member, share) for member, share in others}
    found = profiler_of(place).joint_losses(adapter_folder(owner, rho), folders, owner.calibration)
    return (owner.name, rho), found


def features_of_pair(
    place: Workplace, first: Member, second: Member, crossed: Mapping[Rhos, CrossTasks]
) -> list[FeatureRow]:
    """Return the features of a pair at every combination of shares of training that forward passes are given of."""
    rows = []
    for rhos, (forth, back) in crossed.items():
        found = pair_features(trajectory(place, first, rhos[0]), trajectory(place, second, rhos[1]), forth, back)
        values = _values("symmetric:", SYMMETRIC_COLUMNS, found.symmetric)
        values |= _values("forth:", DIRECTED_COLUMNS, found.forth) | _values("back:", DIRECTED_COLUMNS, found.back)
        rows.append(FeatureRow((first.name, second.name), rhos, values))
    return rows


def _values(prefix: str, columns: Sequence[Column], features: Features) -> dict[str, float]:
    """Return named values, float32 as the records keep them."""
    numbers = features.values.astype(np.float32).tolist()
    return {f"{prefix}{column.name}": value for column, value in zip(columns, numbers, strict=True)}
