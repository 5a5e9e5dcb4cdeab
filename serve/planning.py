"""Which planner plans: by forecasts where there are any, else by weights alone, and it says so."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from probe.predictors.forecast import PredictorError
from router.bank_state import BankState
from router.forecast_planner import ForecastPlanner
from router.labels import against
from router.planner import Settings, WeightsOnlyPlanner
from router.records import Decision, Recipe, Trial, Verdict
from serve.config import NO_PREDICTOR
from serve.forecasts import BankForecasts, load_predictor
from serve.signals.subjects import Piece, Subjects

log = logging.getLogger("ray.serve")


@dataclass(frozen=True, slots=True)
class Planning:
    """`router.planner.Planner` of the running bank.

    Attributes
    ----------
    forecasting
        The planner that goes by forecasts, and what it asks; None where there is no predictor, and `why_not` says why.
    given_up
        Pieces of measuring that failed for good: a bank of which nothing can be measured is planned without forecasts.
    on_plan
        Called with every plan: signals of adapters that came since may be missing.
    """

    weights_only: WeightsOnlyPlanner
    forecasting: tuple[ForecastPlanner, BankForecasts] | None
    why_not: str
    given_up: Callable[[], Mapping[Piece, str]]
    on_plan: Callable[[], None]

    def plan(self, bank: BankState) -> tuple[tuple[Decision, ...], tuple[Trial, ...]]:
        """Plan a bank; see `Planner`."""
        self.on_plan()
        if self.forecasting is None:
            return self.weights_only.plan(bank)
        planner, forecasts = self.forecasting
        forecasts.see([candidate.adapter for candidate in bank.candidates])
        return self.weights_only.plan(bank) if self._is_blind(forecasts) else planner.plan(bank)

    def against_forecast(self, recipe: Recipe, verdict: Callable[[], Verdict]) -> Verdict:
        """Return a verdict with what was forecast before it was measured."""
        if self.forecasting is None:
            return verdict()
        _, forecasts = self.forecasting
        (forecast,) = forecasts.groups([recipe])
        return against(verdict(), forecast, forecasts.digest)

    def describe(self) -> str:
        """Say in a sentence by what the bank is planned."""
        if self.forecasting is None:
            return f"by weights only: {self.why_not}"
        _, forecasts = self.forecasting
        failed = next(iter(self.given_up().values()), "")
        if self._is_blind(forecasts):
            return f"by weights only: {failed}"
        card = forecasts.predictor.card
        fitted = f"fitted on {card.num_adapters} adapters of the bank {card.bank}, of {card.base_model}"
        by = f"by predictor {forecasts.digest[:12]}, {fitted}"
        return f"{by}; some signals could not be measured: {failed}" if failed else by

    def _is_blind(self, forecasts: BankForecasts) -> bool:
        """Say whether nothing was measured, and it is not because nobody has come to it yet."""
        return forecasts.knows_nothing and bool(self.given_up())


def planning(
    predictor: str,
    settings: Settings,
    subjects: Subjects,
    given_up: Callable[[], Mapping[Piece, str]],
    on_plan: Callable[[], None],
) -> Planning:
    """Return the planner that `policy.predictor` asks for; without a usable predictor, the one that goes by weights."""
    forecasting, why_not = None, "policy.predictor is none"
    if predictor != NO_PREDICTOR:
        try:
            forecasts = BankForecasts(load_predictor(predictor), subjects)
            forecasting = ForecastPlanner(settings, forecasts), forecasts
        except PredictorError as error:
            why_not = str(error)
            log.warning("the bank is planned by weights only: %s", error)
    return Planning(WeightsOnlyPlanner(settings), forecasting, why_not, given_up, on_plan)
