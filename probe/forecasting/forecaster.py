"""All of an early forecast at once: from a folder to records. What a Trainer callback calls at every checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from probe.forecasting.comparison import compare
from probe.forecasting.early_forecast import EarlyForecast, figures, forecast
from probe.forecasting.seen_adapter import SeenAdapter, read_candidate
from probe.predictors.predictor import Predictor
from probe.profiling import Profiler


@dataclass(frozen=True, slots=True, eq=False)
class Forecaster:
    """Forecasts adapters against known ones.

    Attributes
    ----------
    known
        Adapters of a bank (`read_known_bank`).
    profiler
        Keeps every profile, and the base model once it is loaded.
    calibrates
        Whether rows may be run through the profiler's base; else the weights alone are compared, and the bounds are
        wider.
    """

    known: Sequence[SeenAdapter]
    predictor: Predictor
    profiler: Profiler
    calibrates: bool = False

    def __call__(self, bundle: Path) -> dict[str, float]:
        """Return the figures of a bundle's latest checkpoint, as `MergeProbeCallback` logs them."""
        return figures(self.forecast(read_candidate(bundle)))

    def forecast(self, candidate: SeenAdapter) -> EarlyForecast:
        """Forecast an adapter; see `probe.forecasting.comparison.compare` for what it raises."""
        return forecast(compare(candidate, self.known, self.profiler, calibrates=self.calibrates), self.predictor)
