"""Measuring signals of adapters and pairs, from files to evidence: what a worker of `serve/signals/job.py` runs.

Knows nothing of Ray, so the same functions run in a test's process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from probe.damage import fisher_damage
from probe.features import Trajectory, adapter_features, pair_features
from probe.forecasting.comparison import PLAN
from probe.predictors.forecast import AdapterEvidence
from probe.profile_store import ProfileStore
from probe.profiles import AdapterProfile, CrossTask
from probe.profiling import MAX_ROWS, Profiler
from probe.rows import first_rows
from probe.signals import Pair
from serve.signals.evidence import FINISHED, AdapterMeasured, Evidence, PairMeasured, Subject


@dataclass(frozen=True, slots=True)
class Place:
    """Where things are, all on this machine.

    Attributes
    ----------
    base
        Folder of the base model.
    adapters, rows
        Of the store: folders by revision, and row files by content hash.
    evidence
        Where the results go.
    """

    base: Path
    adapters: Path
    rows: Path
    evidence: Path


def measure_adapter(place: Place, subject: Subject) -> None:
    """Profile an adapter, on its rows if it has any, and keep its features and its calibrated profile."""
    measuring = _Measuring.at(place)
    profile = measuring.profile(subject)
    features = adapter_features(Trajectory((FINISHED,), (profile,)))
    measured = AdapterMeasured(
        evidence=AdapterEvidence(features.values, FINISHED),
        modules=tuple(profile.modules),
        num_layers=profile.num_layers,
        profile=measuring.profile_name(subject) if subject.rows else None,
    )
    measuring.evidence.put_adapter(subject, measured)


def measure_pairs(place: Place, owner: Subject, others: Sequence[Subject]) -> None:
    """Compare one adapter with others, each pair kept as soon as it is measured."""
    measuring = _Measuring.at(place)
    on_owner = measuring.cross_tasks(owner, others)
    for other in others:
        on_other = measuring.cross_tasks(other, [owner])
        pair = measuring.pair(owner, other, on_other.get(owner), on_owner.get(other))
        measuring.evidence.put_pair(owner, other, pair)


@dataclass(frozen=True, slots=True)
class _Measuring:
    place: Place
    evidence: Evidence
    profiler: Profiler

    @classmethod
    def at(cls, place: Place) -> _Measuring:
        evidence = Evidence(place.evidence)
        return cls(place, evidence, Profiler(ProfileStore(evidence.profiles), lambda: place.base))

    def profile(self, subject: Subject) -> AdapterProfile:
        profile = self.profiler.profile(*self._files(subject))
        return replace(profile, metadata=replace(profile.metadata, domain=subject.domain))

    def profile_name(self, subject: Subject) -> str:
        return self.profiler.store.path(self.profiler.key(*self._files(subject))).name

    def cross_tasks(self, owner: Subject, others: Sequence[Subject]) -> dict[Subject, CrossTask]:
        """Return what each of some adapters does on one's rows; nothing where it has no rows."""
        if owner.rows is None:
            return {}
        folders = {other: self.place.adapters / other.revision for other in others}
        own = self.place.adapters / owner.revision
        return self.profiler.cross_tasks(own, folders, self._first(owner.rows, MAX_ROWS))

    def pair(self, first: Subject, second: Subject, forth: CrossTask | None, back: CrossTask | None) -> PairMeasured:
        one, other = self.profile(first), self.profile(second)
        features = pair_features(Trajectory((FINISHED,), (one,)), Trajectory((FINISHED,), (other,)), forth, back)
        return PairMeasured(features, (fisher_damage(Pair(one, other)), fisher_damage(Pair(other, one))))

    def _files(self, subject: Subject) -> tuple[Path, Path | None]:
        rows = self._first(subject.rows, PLAN.calibration_rows) if subject.rows else None
        return self.place.adapters / subject.revision, rows

    def _first(self, rows: str, count: int) -> Path:
        return first_rows(self.place.rows / f"{rows}.jsonl", count, self.place.evidence / "rows")
