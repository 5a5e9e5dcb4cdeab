"""Verdicts beside the forecasts that they were measured against."""

from __future__ import annotations

import math
from dataclasses import replace

from router.forecasts import GroupForecast
from router.labels import against, against_that_of, comparisons
from router.records import MemberResult, Recipe, Verdict

RECIPE = Recipe("ta", ("r-a", "r-b"), (1.0, 1.0), "none", 16)


def result(revision: str, gate: float | None) -> MemberResult:
    return MemberResult(revision, gate, gate, None, None, 100, 0)


VERDICT = Verdict(RECIPE, "merged-1", False, "too little", (result("r-a", 0.7), result("r-b", 0.9)))
FORECAST = GroupForecast({"r-a": 0.9, "r-b": 0.8}, {"r-a": 0.75, "r-b": -math.inf}, 0.6)


def test_a_verdict_keeps_the_forecast_and_who_made_it() -> None:
    label = against(VERDICT, FORECAST, "d" * 64)
    assert [(m.predicted_retention, m.predicted_lower_bound) for m in label.members] == [(0.9, 0.75), (0.8, None)]
    assert (label.safe_probability, label.predictor) == (0.6, "d" * 64)
    assert against(VERDICT, None, None) == VERDICT


def test_the_comparison_is_measured_less_predicted_and_a_violation_is_below_the_bound() -> None:
    first, second = comparisons(against(VERDICT, FORECAST, "d" * 64))
    assert (round(first.error, 12), first.is_violation) == (-0.2, True)
    assert (round(second.error, 12), second.is_violation) == (0.1, False), "an infinite bound is never violated"


def test_without_a_measurement_or_a_forecast_there_is_nothing_to_compare() -> None:
    assert list(comparisons(VERDICT)) == []
    unmeasured = replace(VERDICT, members=(result("r-a", None),))
    assert list(comparisons(against(unmeasured, FORECAST, None))) == []


def test_a_recheck_keeps_the_forecast_of_the_first_measurement() -> None:
    first = against(VERDICT, FORECAST, "d" * 64)
    again = replace(VERDICT, members=(result("r-a", 0.5), result("r-new", 0.5)))
    label = against_that_of(again, first)
    assert [member.predicted_retention for member in label.members] == [0.9, None]
    assert (label.safe_probability, label.predictor) == (0.6, "d" * 64)
