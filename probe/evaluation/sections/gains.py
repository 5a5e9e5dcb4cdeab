"""Section 7: forecasts of an adapter's own gain G, without which M is not known before training ends."""

from __future__ import annotations

import numpy as np

from probe.bank.report.section import Cell, Section, Table, present
from probe.evaluation.evaluation import Evaluation
from probe.evaluation.metrics import mean_absolute_error, over_adapters, spearman
from probe.evaluation.predictor_trials import GainForecast
from probe.evaluation.splits import Regime

UNIT = "adapters"


def gains(of: Evaluation) -> Section:
    """Return how well G of adapters left out is forecast, beside the mean of the others."""
    title = "Gain of a new adapter"
    found = of.predictors[Regime.BANK_AWARE].gains
    rows = tuple(_row(rho, forecasts) for rho, forecasts in found.items() if len(forecasts) > 1)
    text = ("G is the gain over the base as a share of what the best adapter of the bank gains on the same rows.",)
    columns = ("training seen", "Spearman", "absolute error", "error of the others' mean")
    gaps = () if rows else ("No gain of an adapter was forecast.",)
    return Section("gains", title, text, present((Table("gains", "G, forecast", columns, rows),)), gaps=gaps)


def _row(rho: float, forecasts: tuple[GainForecast, ...]) -> tuple[Cell, ...]:
    known = [one for one in forecasts if np.isfinite(one.forecast)]
    forecast, measured = (np.array([getattr(one, name) for one in known]) for name in ("forecast", "measured"))
    members = [(one.adapter,) for one in known]
    others = (measured.sum() - measured) / max(len(known) - 1, 1)
    return (
        f"{rho:.0%}",
        over_adapters(spearman(forecast, measured), members, UNIT),
        over_adapters(mean_absolute_error(forecast, measured), members, UNIT),
        over_adapters(mean_absolute_error(others, measured), members, UNIT),
    )
