"""Conformal bounds: exact on exchangeable errors, infinite on too few, and each group by its own errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from probe.predictors.conformal import ALL, Radius, narrowest, radii, radius

ALPHA = 0.1


@given(
    st.lists(st.floats(-10, 10), min_size=1, max_size=80),
    st.sampled_from([0.05, 0.1, 0.2, 0.5]),
)
def test_the_radius_is_the_kth_smallest_error(errors: list[float], alpha: float) -> None:
    found = radius(np.array(errors), alpha)
    # By the definition: of n + 1 errors, the new one counted as the largest, at least so many lie at or below it.
    wanted = (len(errors) + 1) * (1 - alpha) - 1e-9
    reached = [value for value in sorted(errors) if sum(error <= value for error in errors) >= wanted]
    assert found == (reached[0] if reached else math.inf)


@pytest.mark.parametrize(("alpha", "least"), [(0.1, 9), (0.05, 19), (0.2, 4)])
def test_too_few_errors_bound_nothing(alpha: float, least: int) -> None:
    errors = np.arange(least, dtype=np.float64)
    assert radius(errors, alpha) == errors.max()
    assert radius(errors[1:], alpha) == math.inf
    assert radius(np.empty(0), alpha) == math.inf


@pytest.mark.parametrize("count", [9, 19, 50, 100])
def test_coverage_is_exact_on_exchangeable_errors(count: int) -> None:
    """Of n + 1 exchangeable errors the last is within the radius with probability k / (n + 1), whatever they follow."""
    draw = np.random.default_rng(count)
    num_trials = 4000
    errors = draw.standard_t(df=2, size=(num_trials, count + 1))
    covered = sum(own[-1] <= radius(own[:-1], ALPHA) for own in errors)
    exact = math.ceil((count + 1) * (1 - ALPHA) - 1e-9) / (count + 1)
    assert exact >= 1 - ALPHA
    low, high = binom.interval(0.9999, num_trials, exact)
    assert low <= covered <= high


def test_each_group_is_covered_where_one_radius_for_all_is_not() -> None:
    draw = np.random.default_rng(0)
    spread = np.where(np.arange(4000) % 2, 1.0, 0.1)
    operators = np.where(np.arange(4000) % 2, "wild", "calm").tolist()
    errors, new = draw.normal(size=(2, 4000)) * spread
    known = radii(errors, ["merge"] * 4000, operators, ALPHA)
    of_each = np.array([narrowest(known, "merge", operator)[1].value for operator in operators])
    for operator in ("wild", "calm"):
        own = np.array(operators) == operator
        assert 0.88 < (new <= of_each)[own].mean() < 0.92
    assert (new <= known[ALL].value)[np.array(operators) == "wild"].mean() < 0.85


def test_a_group_without_labels_enough_falls_back_to_its_action_then_to_everything() -> None:
    errors = np.linspace(0, 1, 30)
    actions = ["merge"] * 20 + ["prune"] * 8 + ["reweight"] * 2
    operators = ["ta"] * 12 + ["ties"] * 8 + ["ta"] * 10
    known = radii(errors, actions, operators, ALPHA)
    assert set(known) == {ALL, "merge", "merge/ta"}
    assert narrowest(known, "merge", "ta") == ("merge/ta", Radius(radius(errors[:12], ALPHA), 12))
    assert narrowest(known, "merge", "ties") == ("merge", Radius(radius(errors[:20], ALPHA), 20))
    assert narrowest(known, "merge", "unheard of")[0] == "merge"
    assert narrowest(known, "prune", "ta") == (ALL, Radius(radius(errors, ALPHA), 30))
    assert narrowest({}, "merge", "ta") == (ALL, Radius(math.inf, 0))
