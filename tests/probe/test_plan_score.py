"""The score, with the worked examples of the specification."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.plan_score import expected_gain, group_gain, passing_chance, plan_score

SEPARATE = (1.0, 1.0)


@pytest.mark.parametrize(
    ("retentions", "merged", "separate"),
    [((0.9, 0.9), 1.3, 1.0), ((0.86,) * 5, 3.8, 2.5)],
)
def test_the_worked_examples_of_the_specification(
    retentions: tuple[float, ...], merged: float, separate: float
) -> None:
    """Two at 0.9 each: 1.8 - 0.5 = 1.3 > 2 - 1; five at 0.86: 4.3 - 0.5 > 5 - 2.5."""
    count = len(retentions)
    assert plan_score([(1.0, kept) for kept in retentions], 1, 0.5) == pytest.approx(merged)
    assert plan_score([SEPARATE] * count, count, 0.5) == pytest.approx(separate)
    named = dict(zip("abcde", retentions, strict=False))
    gain = group_gain(named, dict.fromkeys(named, 1.0), 0.5)
    assert gain == pytest.approx(merged - separate)


def test_positive_transfer_earns_nothing_beyond_one() -> None:
    assert plan_score([(1.0, 1.3)], 1, 0.5) == pytest.approx(0.5)
    assert group_gain({"a": 1.3, "b": 1.1}, {"a": 1.0, "b": 1.0}, 0.5) == pytest.approx(0.5)


def test_what_a_busy_adapter_loses_weighs_more() -> None:
    kept = {"busy": 0.9, "idle": 1.0}
    assert group_gain(kept, {"busy": 6.0, "idle": 0.0}, 0.5) < 0 < group_gain(kept, {"busy": 1.0, "idle": 1.0}, 0.5)


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(-1, 2)), min_size=1, max_size=6), st.floats(0, 1))
def test_what_a_group_adds_is_the_score_with_it_less_the_score_without(
    kept: list[tuple[float, float]], lambda_cost: float
) -> None:
    retention = {str(place): ret for place, (_, ret) in enumerate(kept)}
    weights = {str(place): weight for place, (weight, _) in enumerate(kept)}
    separate = plan_score([(weight, 1.0) for weight, _ in kept], len(kept), lambda_cost)
    gain = plan_score(kept, 1, lambda_cost) - separate
    assert group_gain(retention, weights, lambda_cost) == pytest.approx(gain, abs=1e-9)


def test_a_measurement_is_worth_its_chance_times_what_passing_would_add() -> None:
    uniform = {"a": 1.0, "b": 1.0}
    worth = expected_gain({"a": 0.7, "b": 0.95}, uniform, 0.5, target=0.85, chance=0.4)
    assert worth == pytest.approx(0.4 * (0.5 - 0.15 - 0.05)), "what passes keeps the target at least"


def test_no_merge_is_likelier_to_pass_than_any_member() -> None:
    retention, bounds = {"a": 0.95, "b": 0.8}, {"a": 0.9, "b": 0.8 - 1.2816 * 0.1}
    assert passing_chance(retention, bounds, 0.9, 0.85) == pytest.approx(0.3085, abs=1e-3), "half a deviation short"
    assert passing_chance(retention, bounds, 0.2, 0.85) == 0.2
    assert passing_chance({"a": 0.5}, {"a": 0.5}, 0.9, 0.85) == pytest.approx(0.0, abs=1e-9)
    unbounded = {"a": -math.inf}
    assert passing_chance({"a": 0.9}, unbounded, 0.6, 0.85) == 0.6
    assert passing_chance({"a": 0.8}, unbounded, 0.6, 0.85) == 0.0, "no bound: the forecast itself has to pass"
