"""Do one measurement: merge, ask the members' rows, and more of them where the verdict is close."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache

from probe.adapter_io import read_adapter
from probe.bank.labelling.calibrating import calibration_profile
from probe.bank.labelling.entry import Entry, content_of
from probe.bank.labelling.measurement import Measurement, Stage, needs_data
from probe.bank.labelling.members import Member
from probe.bank.labelling.plan import SAFE_RETENTION, LabelPlan
from probe.bank.labelling.workplace import Workplace
from probe.bank.measuring import Answered, Evaluator
from probe.factors import LoraUpdate
from probe.operators import Merged, merge
from probe.profiles import Calibration
from probe.profiling import Profiler
from probe.reference import Reference
from probe.retention import retention
from probe.rows import Row, read_rows

CLOSE = 1.0
"""Standard errors around `SAFE_RETENTION` within which further rows are asked: beyond it they would seldom turn the
verdict, and cost four times the label."""


@dataclass(frozen=True, slots=True)
class OwnAnswers:
    """What the base and the adapter alone make of the adapter's rows, as many as may be asked."""

    base: Answered
    single: Answered


@dataclass
class Labeller:
    """Holds the base model and what was read of adapters; measures one thing at a time.

    What was read is kept by content, so a bank may change between two measurements.
    """

    evaluator: Evaluator
    profiler: Profiler
    spec: LabelPlan
    _updates: dict[str, LoraUpdate] = field(default_factory=dict, init=False)
    _rows: dict[str, tuple[Row, ...]] = field(default_factory=dict, init=False)

    def measure(self, measurement: Measurement, members: Mapping[str, Member], own: Mapping[str, OwnAnswers]) -> Entry:
        """Return the answers of one module.

        Parameters
        ----------
        members
            Those that are merged, and those that are asked.
        own
            Of the asked adapters; merges are asked further rows by what it says. The base, and an adapter on its own
            rows, are asked all rows at once, because any merge may need them.
        """
        started = time.perf_counter()
        involved = [members[name] for name in measurement.members]
        merged = self._merged(measurement, involved) if len(involved) > 1 else None
        update = merged.update if merged else self._update(involved[0]) if involved else None
        with self.evaluator.fused(update) if update else nullcontext():
            answers = {
                name: self._ask(members[name], measurement.stage is Stage.OWN, own.get(name))
                for name in measurement.asked
            }
        return Entry(
            measurement=measurement,
            rank=self.spec.rank,
            contents={name: content_of(member) for name, member in members.items()},
            answers=answers,
            kept_energy=merged.kept_energy if merged else math.nan,
            norm_ratio=merged.norm_ratio_mean_source if merged else math.nan,
            seconds=round(time.perf_counter() - started, 3),
        )

    def _ask(self, member: Member, is_own: bool, own: OwnAnswers | None) -> Answered:
        rows = self._rows_of(member)
        first = rows[: self.spec.max_rows if is_own else self.spec.num_rows]
        answered = self.evaluator.ask(first).rounded()
        if own is not None and is_close(own, answered):
            answered += self.evaluator.ask(rows[len(first) : self.spec.max_rows]).rounded()
        return answered

    def _merged(self, measurement: Measurement, involved: Sequence[Member]) -> Merged:
        updates = {member.name: self._update(member) for member in involved}
        calibrations = [self._calibration(member) for member in involved] if needs_data(measurement) else None
        return merge(list(updates.values()), measurement.recipe(updates, self.spec.rank), calibrations)

    def _update(self, member: Member) -> LoraUpdate:
        revision = member.record.revision
        if revision not in self._updates:
            self._updates[revision] = read_adapter(member.folder)
        return self._updates[revision]

    def _rows_of(self, member: Member) -> tuple[Row, ...]:
        row_set = member.record.row_set
        if row_set not in self._rows:
            self._rows[row_set] = read_rows(member.evaluation)
        return self._rows[row_set]

    def _calibration(self, member: Member) -> Calibration:
        profile = calibration_profile(self.profiler, member.folder, member, self.spec.calibration_rows)
        assert profile.calibration is not None
        return profile.calibration


def is_close(own: OwnAnswers, answered: Answered) -> bool:
    """Say whether the retention on the rows asked so far lies within `CLOSE` standard errors of the safe threshold."""
    count = len(answered.scores)
    seen = retention(own.base.scores[:count], own.single.scores[:count], answered.scores)
    # Without a positive gain both are NaN, and no number of rows mends that.
    return abs(seen.value - SAFE_RETENTION) < CLOSE * seen.standard_error


def measure(
    place: Workplace, measurement: Measurement, members: Mapping[str, Member], own: Mapping[str, OwnAnswers]
) -> Entry:
    """Do one measurement in this process, which loads the base model the first time."""
    return labeller(place).measure(measurement, members, own)


@lru_cache(maxsize=1)
def labeller(place: Workplace) -> Labeller:
    """Return this process's labeller; the model is loaded once."""
    return Labeller(Evaluator(Reference(place.base, place.device)), place.profiler(), place.spec)
