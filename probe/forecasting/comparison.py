"""Signals of one adapter beside known ones: from folders to evidence, each known adapter in memory once."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from probe.all_pairs import all_pairs
from probe.bank.labelling.plan import LabelPlan
from probe.damage import fisher_damage
from probe.features import Trajectory, adapter_features, pair_features
from probe.forecasting.conflict import Conflict, conflict_of
from probe.forecasting.partners import check_shapes, partners_of
from probe.forecasting.seen_adapter import ForecastingError, SeenAdapter
from probe.predictors.forecast import AdapterEvidence, Evidence
from probe.profiles import AdapterProfile, CrossTask
from probe.profiling import MAX_ROWS, Profiler
from probe.progress import OnProgress, silent
from probe.rows import first_rows
from probe.signals import Pair
from probe.vectors import PairFeatures, Vector

PLAN = LabelPlan()
"""Rows of a calibration pass and of a shift are as many as the shipped labels' features were measured on."""
MAX_CALIBRATED = 12
"""Known adapters that rows are run through, those whose updates agree most: each takes three passes of some rows, and a
bank's own planner compares none with more (`router.partition.EXACT_LIMIT`)."""

PairKey = tuple[str, str]
"""Revisions."""


class NothingLearntYet(ForecastingError):
    """The update is still zero."""


@dataclass(frozen=True, slots=True, eq=False)
class ComparedAdapter:
    """Signals of one adapter.

    Attributes
    ----------
    name
        For people.
    evidence
        For the predictor.
    modules
        Base modules that it changes.
    rank
        Largest rank of one of them.
    num_layers
        Blocks of the base model.
    """

    name: str
    evidence: AdapterEvidence
    modules: tuple[str, ...]
    rank: int
    num_layers: int


@dataclass(frozen=True, slots=True, eq=False)
class ComparedPair:
    """Signals of one pair.

    Attributes
    ----------
    features
        For the predictor; `forth` is what the first does to the second.
    damage
        First on second, and second on first (`probe.damage.fisher_damage`); empty where it was not measured.
    """

    features: PairFeatures
    damage: tuple[Vector, Vector]
    conflict: Conflict


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """One adapter beside known ones, by revision.

    Attributes
    ----------
    candidate
        Revision of the adapter that is asked about.
    adapters
        Of it and of every known one.
    pairs
        (candidate, other).
    left_out
        Name -> why it was not compared.
    """

    candidate: str
    adapters: Mapping[str, ComparedAdapter]
    pairs: Mapping[PairKey, ComparedPair]
    left_out: Mapping[str, str]

    @property
    def others(self) -> tuple[str, ...]:
        """The known adapters."""
        return tuple(second for _, second in self.pairs)

    @property
    def evidence(self) -> Evidence:
        """All of it as a predictor reads it."""
        return Evidence(
            {revision: one.evidence for revision, one in self.adapters.items()},
            {pair: one.features for pair, one in self.pairs.items()},
        )


def compare(
    candidate: SeenAdapter,
    known: Sequence[SeenAdapter],
    profiler: Profiler,
    *,
    calibrates: bool,
    on_progress: OnProgress = silent,
) -> Comparison:
    """Measure the signals of an adapter and of its pairs with known ones.

    Parameters
    ----------
    calibrates
        Whether rows may be run through the base model; where the candidate or the other one has none, the weights alone
        are compared all the same.

    Raises
    ------
    NoKnownAdapter
        None is left to compare with.
    OtherBase
        The candidate is of another base than all of them, or its modules have other shapes.
    NothingLearntYet
        The candidate's update is still zero.
    AdapterError, BundleError, RowError, CalibrationError, ReferenceLoadError
        A folder, rows, or the base cannot be used.
    """
    comparer = Comparer(profiler, calibrates)
    others, left_out = partners_of(candidate, known)
    own = comparer.trajectory(candidate, False)
    if not own.now.modules:
        raise NothingLearntYet(
            f"{candidate.name}'s update is still zero at {candidate.rho:.0%} of training, as in the first step of a "
            "warm-up; ask again at the next checkpoint."
        )
    chosen = comparer.to_calibrate(candidate, own, others)
    if chosen:
        own = comparer.trajectory(candidate, True)
    crossed = comparer.cross_tasks(candidate, chosen)
    named = replace(candidate, name=_new_name(candidate.name, {one.name for one in known}))
    adapters, pairs = {candidate.revision: _adapter(named, own)}, {}
    for done, other in enumerate(others):
        on_progress("comparing", done, len(others))
        theirs = comparer.trajectory(other, other in chosen)
        check_shapes(candidate, own.now, other, theirs.now)
        adapters[other.revision] = _adapter(other, theirs)
        pairs[candidate.revision, other.revision] = _pair(own, theirs, *crossed.get(other.revision, (None, None)))
    on_progress("comparing", len(others), len(others))
    return Comparison(candidate.revision, adapters, pairs, left_out)


def _new_name(name: str, taken: Collection[str]) -> str:
    """Return what to call a candidate: a bank often holds an earlier training of it by the same name."""
    while name in taken:
        name = f"{name} (new)"
    return name


@dataclass(frozen=True, slots=True)
class Comparer:
    """Measures what two adapters have in common."""

    profiler: Profiler
    calibrates: bool

    def pair(self, first: SeenAdapter, second: SeenAdapter) -> ComparedPair:
        """Compare two known adapters, by their rows where both have some."""
        chosen = [one for one in (second,) if self._reads_rows(first) and self._reads_rows(one)]
        one, other = (self.trajectory(adapter, bool(chosen)) for adapter in (first, second))
        return _pair(one, other, *self.cross_tasks(first, chosen).get(second.revision, (None, None)))

    def trajectory(self, adapter: SeenAdapter, is_calibrated: bool) -> Trajectory:
        """Return what is known of an adapter at each of its states."""
        rows = self._first(adapter.rows, PLAN.calibration_rows) if is_calibrated and adapter.rows else None
        profiles = [
            replace(self.profiler.profile(state.folder, rows), metadata=state.metadata) for state in adapter.states
        ]
        return Trajectory(tuple(state.rho for state in adapter.states), tuple(profiles))

    def to_calibrate(self, candidate: SeenAdapter, own: Trajectory, others: Sequence[SeenAdapter]) -> list[SeenAdapter]:
        """Return the known adapters that rows are run through: those whose updates agree most with the candidate's."""
        able = [one for one in others if self._reads_rows(candidate) and self._reads_rows(one)]
        if len(able) <= MAX_CALIBRATED:
            return able
        ordered = sorted(able, key=lambda one: -_affinity(own.now, self.profiler.profile(one.now.folder)))
        return ordered[:MAX_CALIBRATED]

    def cross_tasks(self, owner: SeenAdapter, others: Sequence[SeenAdapter]) -> dict[str, tuple[CrossTask, CrossTask]]:
        """Return other's revision -> what the owner does on its rows, and what it does on the owner's."""
        back = self._on_rows_of(owner, others)
        return {
            other.revision: (self._on_rows_of(other, [owner])[owner.revision], back[other.revision]) for other in others
        }

    def _on_rows_of(self, owner: SeenAdapter, others: Sequence[SeenAdapter]) -> dict[str, CrossTask]:
        """Return other's revision -> what it does on the owner's rows."""
        if not others or owner.rows is None:
            return {}
        folders = {other.revision: other.now.folder for other in others}
        return self.profiler.cross_tasks(owner.now.folder, folders, self._first(owner.rows, MAX_ROWS))

    def _first(self, rows: Path, count: int) -> Path:
        return first_rows(rows, count, self.profiler.store.folder)

    def _reads_rows(self, adapter: SeenAdapter) -> bool:
        return self.calibrates and adapter.rows is not None


def _adapter(seen: SeenAdapter, trajectory: Trajectory) -> ComparedAdapter:
    now = trajectory.now
    return ComparedAdapter(
        name=seen.name,
        evidence=AdapterEvidence(adapter_features(trajectory).values, seen.rho),
        modules=tuple(now.modules),
        rank=now.metadata.rank or max((module.rank for module in now.modules.values()), default=1),
        num_layers=now.num_layers,
    )


def _pair(first: Trajectory, second: Trajectory, forth: CrossTask | None, back: CrossTask | None) -> ComparedPair:
    there, here = Pair(first.now, second.now, forth), Pair(second.now, first.now, back)
    damage = fisher_damage(there), fisher_damage(here)
    return ComparedPair(pair_features(first, second, forth, back), damage, conflict_of(there, damage))


def _affinity(first: AdapterProfile, second: AdapterProfile) -> float:
    """Return how far two updates agree beyond colliding: the order in which a bank's planner looks at pairs too."""
    both = all_pairs([first, second])
    score = float(both.cosine[0, 1] - both.overlap_above_chance[0, 1])
    return -math.inf if math.isnan(score) else score
