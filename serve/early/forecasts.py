"""`POST /bank/forecast`: an adapter still in training against the running bank. Nothing is registered by it.

The source is copied and checked as a registration's is, into a folder that is gone at the end; its signals are measured
where the bank's own are, off the serving path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any

from probe.adapter_io import read_config
from probe.forecasting.advice import Effect
from probe.forecasting.comparison import Comparison, compare
from probe.forecasting.seen_adapter import FINISHED, SeenAdapter, SeenState
from probe.profile_store import ProfileStore, read_profile
from probe.profiles import AdapterProfile, Metadata
from probe.profiling import Profiler
from router.bank_state import Settings
from router.records import Adapter, Placement
from router.registry import Registry
from router.store import Store
from serve.early.action import Standing
from serve.early.answer import Basis, answer
from serve.early.source import RETRY_SECONDS, ForecastBody, Staging, TakeIn, refusals
from serve.errors import HttpError
from serve.planning import Planning
from serve.signals.evidence import Evidence, PairMeasured
from serve.signals.measuring import Place
from serve.signals.subjects import Subjects

Compare = Callable[["EarlyComparison"], Comparison]
"""Has a comparison made, and returns it."""


@dataclass(frozen=True, slots=True)
class EarlyComparison:
    """The measuring of one forecast: what a worker of `serve/limited/task.py` runs.

    Attributes
    ----------
    scratch
        Folder for profiles that are not kept.
    """

    candidate: SeenAdapter
    known: tuple[SeenAdapter, ...]
    scratch: Path
    calibrates: bool

    def __call__(self, place: Place) -> Comparison:
        """Compare, in this process."""
        store = _Scratch(self.scratch, ProfileStore(Evidence(place.evidence).profiles))
        profiler = Profiler(store, lambda: place.base)
        return compare(self.candidate, self.known, profiler, calibrates=self.calibrates)

    def __str__(self) -> str:
        return f"the signals of {self.candidate.name}, beside {len(self.known)} adapters"


@dataclass(frozen=True, slots=True)
class _Scratch(ProfileStore):
    """Profiles that are known elsewhere, and a folder for all others."""

    kept: ProfileStore

    def get(self, key: str, make: Callable[[], AdapterProfile]) -> AdapterProfile:
        return read_profile(self.kept.path(key)) or ProfileStore.get(self, key, make)


@dataclass(frozen=True, slots=True)
class EarlyForecasts:
    """Forecasts for the running bank, one at a time: each may take a worker for minutes.

    Attributes
    ----------
    planning
        Has the predictor, where there is one.
    effects
        Returns what the records say of trainings.
    vetoed
        Returns the groups that a person keeps out.
    """

    registry: Registry
    store: Store
    subjects: Subjects
    settings: Settings
    roots: tuple[Path, ...]
    take_in: TakeIn
    compare: Compare
    planning: Planning
    effects: Callable[[], Sequence[Effect]]
    vetoed: Callable[[Sequence[Adapter]], frozenset[frozenset[str]]]
    _turn: Lock = field(default_factory=Lock)

    def answer(self, body: ForecastBody) -> dict[str, Any]:
        """Return the forecast of an adapter, as `serve.early.answer.answer` gives it.

        Raises
        ------
        IntakeError
            The source or its rows are refused.
        HttpError
            409 where there is no predictor, no checkpoint yet, or nobody to merge with; 429 while another forecast is
            made; 413 and 503 where a worker met its limits.
        """
        if self.planning.forecasting is None:
            message = f"this bank is planned {self.planning.describe()}; set policy.predictor to a folder that has one"
            raise HttpError(409, message, "no_predictor")
        _, forecasts = self.planning.forecasting
        if not self._turn.acquire(blocking=False):
            message = "another forecast is being made, and there is one at a time; ask again soon"
            raise HttpError(429, message, "saturated", retry_after_seconds=RETRY_SECONDS)
        try:
            with self.store.staging() as folder, refusals(body.source, folder):
                return self._answer(body, folder, Basis(forecasts.predictor, self.settings, self.effects()))
        finally:
            self._turn.release()

    def _answer(self, body: ForecastBody, folder: Path, basis: Basis) -> dict[str, Any]:
        candidate = Staging(folder, (*self.roots, folder), self.take_in).stage(body)
        adapters = self.registry.adapters()
        mergeable = self.subjects.mergeable(adapters)
        calibrates = self.subjects.calibrates
        known = tuple(self._seen(adapter) for adapter in mergeable)
        work = EarlyComparison(candidate, known, folder / "profiles", calibrates)
        found = self.compare(work)
        names = {adapter.name for adapter in mergeable}
        others = {
            one.name: "protected, without evaluation rows, or leaving" for one in adapters if one.name not in names
        }
        by_revision = {adapter.revision: adapter for adapter in mergeable}
        return answer(
            candidate,
            replace(found, left_out={**found.left_out, **others}),
            basis,
            lambda first, second: self._pair(by_revision[first], by_revision[second]),
            Standing(self._groups(), self.vetoed(adapters)),
        )

    def _seen(self, adapter: Adapter) -> SeenAdapter:
        folder = self.store.adapter_path(adapter.revision)
        config = read_config(folder)
        metadata = Metadata(domain=adapter.domain, rank=config.rank, scaling=config.scaling)
        rows = self.store.rows_path(adapter.calibration) if adapter.calibration else None
        # Its base was checked when it was registered, under any of the names that this bank's base has.
        return SeenAdapter(adapter.name, adapter.revision, (SeenState(FINISHED, folder, metadata),), rows, None)

    def _pair(self, first: Adapter, second: Adapter) -> PairMeasured | None:
        """Return the most that is known of two registered adapters."""
        views = ((view(first), view(second)) for view in (self.subjects.full, self.subjects.light))
        return next((found for pair in views if (found := self.subjects.evidence.pair(*pair))), None)

    def _groups(self) -> tuple[frozenset[str], ...]:
        """Return the groups that share a module now, by revision."""
        modules: dict[str, set[str]] = {}
        for route in self.registry.table().routes:
            if route.placement is Placement.MERGED:
                modules.setdefault(route.module, set()).add(route.revision)
        return tuple(frozenset(members) for _, members in sorted(modules.items()))
