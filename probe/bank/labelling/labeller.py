"""Do one measurement: merge, and ask the members' rows."""

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
from probe.bank.labelling.measurement import Measurement, needs_data
from probe.bank.labelling.members import Member
from probe.bank.labelling.plan import LabelPlan
from probe.bank.labelling.workplace import Workplace
from probe.bank.measuring import Answered, Evaluator
from probe.factors import LoraUpdate
from probe.operators import Merged, merge
from probe.profiles import Calibration
from probe.profiling import Profiler
from probe.reference import Reference
from probe.rows import Row, read_rows


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

    def measure(self, measurement: Measurement, members: Mapping[str, Member]) -> Entry:
        """Return the answers of one module; `members` are those that are merged, and those that are asked."""
        started = time.perf_counter()
        involved = [members[name] for name in measurement.members]
        merged = self._merged(measurement, involved) if len(involved) > 1 else None
        update = merged.update if merged else self._update(involved[0]) if involved else None
        with self.evaluator.fused(update) if update else nullcontext():
            answers = {name: self._ask(members[name], measurement.is_further) for name in measurement.asked}
        return Entry(
            measurement=measurement,
            rank=self.spec.rank,
            contents={name: content_of(member) for name, member in members.items()},
            answers=answers,
            kept_energy=merged.kept_energy if merged else math.nan,
            norm_ratio=merged.norm_ratio_mean_source if merged else math.nan,
            seconds=round(time.perf_counter() - started, 3),
        )

    def _ask(self, member: Member, is_further: bool) -> Answered:
        first = self.spec.num_rows
        asked = slice(first, self.spec.max_rows) if is_further else slice(first)
        return self.evaluator.ask(self._rows_of(member)[asked]).rounded()

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


def measure(place: Workplace, measurement: Measurement, members: Mapping[str, Member]) -> Entry:
    """Do one measurement in this process, which loads the base model the first time."""
    return labeller(place).measure(measurement, members)


@lru_cache(maxsize=1)
def labeller(place: Workplace) -> Labeller:
    """Return this process's labeller; the model is loaded once."""
    return Labeller(Evaluator(Reference(place.base, place.device)), place.profiler(), place.spec)
