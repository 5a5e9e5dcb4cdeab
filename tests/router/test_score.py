"""What each adapter's retention counts for."""

from __future__ import annotations

from router.score import traffic_weights
from tests.router.banks import candidate


def test_weights_are_shares_of_the_traffic_and_sum_to_the_bank() -> None:
    bank = [candidate(name) for name in "abcd"]
    assert traffic_weights(bank, {}) == {f"r-{name}": 1.0 for name in "abcd"}
    weights = traffic_weights(bank, {"a": 30.0, "b": 10.0, "gone": 99.0})
    assert weights == {"r-a": 3.0, "r-b": 1.0, "r-c": 0.0, "r-d": 0.0}


def test_two_names_of_one_content_weigh_as_two() -> None:
    twins = [candidate("a", revision="r"), candidate("b", revision="r"), candidate("c")]
    assert traffic_weights(twins, {}) == {"r": 2.0, "r-c": 1.0}
