"""Plans by planted forecasts, and what comes of measuring what they ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from router.bank_state import BankState, Settings
from router.forecast_planner import ForecastPlanner
from router.records import Decision, MemberResult, Recipe, Trial, Verdict
from tests.router.banks import table
from tests.router.planted import Kept, PlantedForecasts
from tests.router.test_planner import check_safe

Plan = tuple[tuple[Decision, ...], tuple[Trial, ...]]


def planner(kept: Kept, planner_settings: Settings | None = None, **forecasts: object) -> ForecastPlanner:
    return ForecastPlanner(planner_settings or Settings(), PlantedForecasts(kept, **forecasts))  # type: ignore[arg-type]


def plan(bank: BankState, kept: Kept, planner_settings: Settings | None = None, **forecasts: object) -> Plan:
    return planner(kept, planner_settings, **forecasts).plan(bank)


def reasons_of(decisions: Sequence[Decision]) -> dict[str, str]:
    return {decision.adapter: decision.reason for decision in decisions}


def measured(recipe: Recipe, retention: Mapping[str, float] | float, target: float = 0.85) -> Verdict:
    """Return the verdict on a recipe whose members keep this, with bounds that lie 0.02 below."""
    kept = retention if isinstance(retention, Mapping) else dict.fromkeys(recipe.members, retention)
    results = tuple(MemberResult(m, kept[m], kept[m] - 0.02, kept[m], 0.01, 50, 50) for m in recipe.members)
    passed = all(result.gate_lower_bound >= target for result in results)
    return Verdict(recipe, f"m-{recipe.key[:8]}", passed, "measured", results)


def settle(
    bank: BankState, by: ForecastPlanner, truth: Callable[[Recipe], Mapping[str, float]], limit: int = 40
) -> tuple[BankState, int]:
    """Measure what a planner asks for and serve what it decides, until it asks for nothing; count the measurements."""
    count = 0
    for _ in range(limit):
        decisions, trials = by.plan(bank)
        check_safe(bank, decisions, trials, by.settings.target_retention)
        bank = replace(bank, current=table(decisions, bank.verdicts))
        if not trials:
            return bank, count
        verdicts = []
        for trial in trials:
            for recipe in trial.recipes:
                verdicts.append(measured(recipe, truth(recipe)))
                if verdicts[-1].passed:
                    break
        count += len(verdicts)
        bank = replace(bank, verdicts=(*bank.verdicts, *verdicts))
    pytest.fail("it never stopped asking")
