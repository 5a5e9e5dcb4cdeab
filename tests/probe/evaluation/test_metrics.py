"""Metrics agree with their textbook forms, under weights as well."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import brier_score_loss, roc_auc_score

from probe.evaluation.metrics import (
    auroc,
    brier,
    calibration_error,
    calibration_error_by_chance,
    equal_mass_bins,
    lead,
    mean,
    mean_absolute_error,
    over_adapters,
    permutation_p_value,
    spearman,
)

EQUAL = np.ones((1, 60))


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    # Rounded, so that there are ties.
    scores = draw.uniform(size=60).round(1)
    return scores, draw.uniform(size=60) < scores, draw.exponential(size=(3, 60))


def test_auroc_is_that_of_scikit_learn_for_every_weighting(drawn: tuple[np.ndarray, ...]) -> None:
    scores, is_safe, weights = drawn
    expected = [roc_auc_score(is_safe, scores, sample_weight=one) for one in weights]
    assert auroc(scores, is_safe)(weights) == pytest.approx(expected)


def test_brier_is_that_of_scikit_learn_for_every_weighting(drawn: tuple[np.ndarray, ...]) -> None:
    scores, is_safe, weights = drawn
    expected = [brier_score_loss(is_safe, scores, sample_weight=one) for one in weights]
    assert brier(scores, is_safe)(weights) == pytest.approx(expected)


def test_merges_of_different_strata_are_never_compared(drawn: tuple[np.ndarray, ...]) -> None:
    scores, is_safe, _ = drawn
    strata = ["a"] * 30 + ["b"] * 30
    # Another level of one stratum changes nothing, though it changes the order of everything.
    lifted = scores + np.repeat([0.0, 5.0], 30)
    assert auroc(lifted, is_safe, strata)(EQUAL) == pytest.approx(auroc(scores, is_safe, strata)(EQUAL))
    assert auroc(lifted, is_safe)(EQUAL) != pytest.approx(auroc(scores, is_safe)(EQUAL))
    measured = np.arange(60.0) % 7
    expected = np.mean([spearmanr(scores[part], measured[part]).statistic for part in (slice(30), slice(30, 60))])
    assert spearman(lifted, measured, strata)(EQUAL) == pytest.approx(expected)


def test_a_class_that_is_missing_leaves_auroc_undefined() -> None:
    assert np.isnan(auroc(np.arange(4.0), np.ones(4, dtype=bool))(np.ones((1, 4)))).all()


def test_calibration_error_of_a_known_table() -> None:
    probability = np.repeat([0.2, 0.8], 20)
    is_safe = np.concatenate([np.arange(20) < 6, np.arange(20) < 12])
    # Off by 0.1 in one bin and by 0.2 in the other, of equal mass.
    assert calibration_error(probability, is_safe)(np.ones((1, 40))) == pytest.approx(0.15)


def test_perfect_probabilities_look_as_bad_as_chance_says() -> None:
    draw = np.random.default_rng(1)
    probability = draw.uniform(size=400)
    found = [
        calibration_error(probability, draw.uniform(size=400) < probability)(np.ones((1, 400)))[0] for _ in range(30)
    ]
    assert calibration_error_by_chance(probability) == pytest.approx(np.mean(found), abs=0.01)
    assert calibration_error_by_chance(probability) > 0.02


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300))
def test_bins_have_equal_mass_in_order(values: list[float]) -> None:
    array = np.array(values)
    bins = equal_mass_bins(array)
    assert sorted(np.concatenate(bins).tolist()) == list(range(len(values)))
    assert all(array[low].max() < array[high].min() for low, high in pairwise(bins))
    if len(set(values)) == len(values):
        assert max(map(len, bins)) - min(map(len, bins)) <= 1


def test_an_estimate_counts_rows_and_has_an_interval_around_its_value() -> None:
    draw = np.random.default_rng(2)
    names = [f"a{number}" for number in range(12)]
    members = [(one, other) for one in names for other in names if one != other]
    scores = draw.uniform(size=len(members))
    found = over_adapters(auroc(scores, draw.uniform(size=len(members)) < scores), members, "merges")
    assert (found.n, found.unit) == (132, "merges")
    assert found.low < found.value < found.high
    assert 0.7 < found.value < 0.95


def test_a_lead_over_itself_is_nothing_and_nothing_is_undefined() -> None:
    metric = mean_absolute_error(np.arange(60.0), np.zeros(60))
    assert lead(metric, metric)(EQUAL) == pytest.approx(0.0)
    nothing = over_adapters(mean(np.empty(0)), [], "merges")
    assert np.isnan(nothing.value)
    assert nothing.n == 0


def test_permutations_find_an_order_and_none_where_there_is_none() -> None:
    draw = np.random.default_rng(3)
    measured = draw.normal(size=80)
    blocks = [row // 2 for row in range(80)]
    strata = ["ta"] * 40 + ["ties"] * 40
    assert permutation_p_value(measured + draw.normal(size=80), measured, blocks, strata) < 0.01
    found = [permutation_p_value(draw.normal(size=80), measured, blocks, strata, num=99) for _ in range(60)]
    assert 0.3 < np.mean(found) < 0.7


def test_permutations_keep_the_level_of_an_operator_in_the_null() -> None:
    draw = np.random.default_rng(4)
    level = np.repeat([0.0, 10.0], 40)
    # The forecast knows the operators' levels and nothing else: no evidence.
    forecast, measured = level + draw.normal(size=80), level + draw.normal(size=80)
    strata = ["ta"] * 40 + ["ties"] * 40
    assert spearmanr(forecast, measured).statistic > 0.5
    assert permutation_p_value(forecast, measured, list(range(80)), strata) > 0.02
    assert permutation_p_value(forecast, measured, list(range(80)), ["all"] * 80) < 0.01
