"""The score, with the worked examples of the specification."""

from __future__ import annotations

import pytest

from router.score import group_gain, plan_score, traffic_weights
from tests.router.banks import candidate

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


def test_weights_are_shares_of_the_traffic_and_sum_to_the_bank() -> None:
    bank = [candidate(name) for name in "abcd"]
    assert traffic_weights(bank, {}) == {f"r-{name}": 1.0 for name in "abcd"}
    weights = traffic_weights(bank, {"a": 30.0, "b": 10.0, "gone": 99.0})
    assert weights == {"r-a": 3.0, "r-b": 1.0, "r-c": 0.0, "r-d": 0.0}


def test_what_a_busy_adapter_loses_weighs_more() -> None:
    kept = {"busy": 0.9, "idle": 1.0}
    assert group_gain(kept, {"busy": 6.0, "idle": 0.0}, 0.5) < 0 < group_gain(kept, {"busy": 1.0, "idle": 1.0}, 0.5)


def test_two_names_of_one_content_weigh_as_two() -> None:
    twins = [candidate("a", revision="r"), candidate("b", revision="r"), candidate("c")]
    assert traffic_weights(twins, {}) == {"r": 2.0, "r-c": 1.0}
