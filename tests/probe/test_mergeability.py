"""What follows from retention and gain, by hand."""

from __future__ import annotations

import math

import pytest

from probe.bank.mergeability import compatibility, is_safe, safe_sides, set_score


def test_a_merge_is_safe_where_nobody_drops_much_and_everybody_gained() -> None:
    assert is_safe((0.9, 0.9, 0.9), (1.0, 1.0, 1.0))
    assert is_safe((0.9, 0.9, 0.84), (1.0, 1.0, 1.0)) is False
    assert is_safe((0.9, 0.9, 0.9), (1.0, 1.0, 0.0)) is False


def test_other_thresholds_give_other_labels() -> None:
    assert is_safe((0.9, 0.9), (0.7, 0.7), min_compatibility=0.7) is False
    assert is_safe((0.9, 0.8), (1.0, 1.0), max_drop=0.25)


@pytest.mark.parametrize("gains", [(math.nan, 1.0), (1.0, math.nan), (math.nan, math.nan)])
def test_where_a_gain_is_unknown_nothing_that_needs_it_is_known(gains: tuple[float, float]) -> None:
    assert is_safe((0.9, 0.9), gains) is None
    assert is_safe((0.1, 0.9), gains) is None
    assert math.isnan(compatibility((0.9, 0.9), gains))
    assert math.isnan(set_score((0.9, 0.9), gains))


def test_the_compatibility_of_two_is_that_of_equation_3() -> None:
    assert compatibility((0.9, 0.85), (0.75, 1.0)) == pytest.approx(math.sqrt(0.75) * (0.9 + 0.85) / 2)


def test_a_negative_gain_makes_nothing_compatible() -> None:
    assert compatibility((0.9, 0.9), (-0.5, -0.5)) == 0.0


def test_a_set_s_score_weighs_what_is_kept_by_what_was_gained() -> None:
    assert set_score((1.0, 0.5), (0.5, 1.0)) == 0.5
    assert set_score((1.2, 0.0, 0.5), (1.0, 1.0, 0.6)) == pytest.approx(0.5)


def test_a_side_is_safe_where_it_drops_little_in_a_merge_that_is_compatible() -> None:
    assert safe_sides((0.9, 0.5), (1.0, 1.0)) == (True, False)
    assert safe_sides((0.9, 0.9), (0.3, 0.3)) == (False, False), "M is too small for either"
    assert safe_sides((0.9, 0.9), (math.nan, 1.0)) is None
