"""Intervals cover what they promise, and the permutation test calls noise noise."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from scipy.stats import bootstrap, spearmanr

from probe.bank.report.statistics import (
    Estimate,
    adapter_permutation_test,
    adapter_weights,
    estimate,
    mean_over_pairs,
    mean_over_units,
    spearman_over_pairs,
    weighted_midranks,
    weighted_spearman,
)

ADAPTERS = 12
PAIRS = [(i, j) for i, j in permutations(range(ADAPTERS), 2)]
MEMBERS = [(f"a{i}", f"a{j}") for i, j in PAIRS]
VICTIMS, OTHERS = (np.asarray([pair[axis] for pair in PAIRS], dtype=np.int64) for axis in (0, 1))


def of_pairs(rng: np.random.Generator, effect: float = 1.0) -> np.ndarray:
    """Values of ordered pairs of mean 0 that share what is particular to each adapter."""
    victim, other = rng.normal(size=(2, ADAPTERS)) * effect
    return victim[VICTIMS] + other[OTHERS] + rng.normal(size=len(PAIRS))


@pytest.mark.parametrize("effect", [0.3, 1.0])
def test_the_interval_over_pairs_covers_the_truth_although_pairs_share_adapters(effect: float) -> None:
    rng = np.random.default_rng(0)
    found = [mean_over_pairs(of_pairs(rng, effect), MEMBERS) for _ in range(120)]
    covered = np.mean([one.low <= 0 <= one.high for one in found])
    assert covered >= 0.91  # 0.95 less two standard errors of 120 trials


def test_an_interval_that_ignores_shared_adapters_would_not_cover() -> None:
    rng = np.random.default_rng(0)
    found = [mean_over_units(of_pairs(rng), "pairs") for _ in range(60)]
    assert np.mean([one.low <= 0 <= one.high for one in found]) < 0.7


def test_the_interval_over_rows_agrees_with_scipys() -> None:
    rows = np.random.default_rng(1).exponential(size=200)
    ours = mean_over_units(rows, "rows")
    theirs = bootstrap((rows,), np.mean, method="BCa", rng=np.random.default_rng(2)).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.03)
    assert (ours.n, ours.unit) == (200, "rows")


@pytest.mark.parametrize(
    ("values", "why"),
    [([0.5, 0.6, 0.7, 0.8, 0.9], "five rows"), ([0.5] * 50, "no variation"), ([], "nothing at all")],
)
def test_a_sample_that_bounds_nothing_gets_no_interval(values: list[float], why: str) -> None:
    found = mean_over_units(values, "rows")
    assert (found.low, found.high, found.is_bounded) == (-math.inf, math.inf, False), why
    assert found.n == len(values)


def test_pairs_of_three_adapters_get_no_interval_however_many_they_are() -> None:
    members = [("a", "b"), ("b", "c"), ("a", "c")] * 10
    assert not mean_over_pairs(np.arange(30.0), members).is_bounded


def test_replicates_that_are_mostly_undefined_bound_nothing() -> None:
    replicates = np.asarray([math.nan] * 200 + list(np.linspace(0, 1, 800)))
    assert estimate(0.5, replicates, 30, "rows") == Estimate(0.5, -math.inf, math.inf, 30, "rows")


def test_weights_stand_for_repeated_rows() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.integers(0, 5, 20).astype(float), rng.normal(size=20)
    counts = rng.integers(1, 4, 20)
    expected = spearmanr(np.repeat(first, counts), np.repeat(second, counts)).statistic
    assert weighted_spearman(first, second, counts[None].astype(float))[0] == pytest.approx(expected)


def test_equal_values_share_the_middle_of_their_ranks() -> None:
    ranks = weighted_midranks(np.asarray([2.0, 1.0, 2.0]), np.ones((1, 3)))
    assert ranks.tolist() == [[2.0, 0.5, 2.0]]


def test_a_constant_column_has_no_correlation() -> None:
    found = spearman_over_pairs(np.full(len(PAIRS), 0.3), np.arange(float(len(PAIRS))), MEMBERS)
    assert math.isnan(found.value)
    assert not found.is_bounded


def test_resampling_is_the_same_every_time() -> None:
    assert np.array_equal(adapter_weights(MEMBERS, 5), adapter_weights(MEMBERS, 5))
    values = of_pairs(np.random.default_rng(4))
    assert mean_over_pairs(values, MEMBERS) == mean_over_pairs(values, MEMBERS)


def signal(rng: np.random.Generator) -> np.ndarray:
    """A signal of pairs that, like Ret, depends on who is the victim."""
    victim, other = rng.normal(size=(2, ADAPTERS))
    return victim[:, None] + other[None, :] + rng.normal(size=(ADAPTERS, ADAPTERS))


def test_the_permutation_test_keeps_its_level_although_pairs_share_adapters() -> None:
    rng = np.random.default_rng(5)
    p_values = []
    for _ in range(12):
        columns = np.stack([signal(rng) for _ in range(15)])
        tested = adapter_permutation_test(columns, VICTIMS, OTHERS, of_pairs(rng), num=199)
        p_values += list(tested.p_values)
    rejected = np.mean(np.asarray(p_values) <= 0.05)
    assert 0.01 <= rejected <= 0.10


def test_shuffling_pairs_would_not_keep_the_level() -> None:
    rng = np.random.default_rng(5)
    p_values = [spearmanr(signal(rng)[VICTIMS, OTHERS], of_pairs(rng)).pvalue for _ in range(100)]
    assert np.mean(np.asarray(p_values) <= 0.05) > 0.2


def test_the_family_wise_p_keeps_its_level_over_all_columns() -> None:
    rng = np.random.default_rng(6)
    least = []
    for _ in range(25):
        columns = np.stack([signal(rng) for _ in range(20)])
        least.append(adapter_permutation_test(columns, VICTIMS, OTHERS, of_pairs(rng), num=99).family_wise.min())
    assert np.mean(np.asarray(least) <= 0.05) <= 0.16  # while the least of 20 own p would be under it in 2 of 3


def test_the_permutation_test_finds_a_signal_and_leaves_gaps_out() -> None:
    rng = np.random.default_rng(7)
    true, gappy = signal(rng), signal(rng)
    gappy[0] = math.nan
    outcome = true[VICTIMS, OTHERS] + 0.2 * rng.normal(size=len(PAIRS))
    tested = adapter_permutation_test(
        np.stack([true, gappy, np.full_like(true, math.nan)]), VICTIMS, OTHERS, outcome, num=199
    )
    assert tested.correlations[0] > 0.9
    assert tested.p_values[0] == tested.family_wise[0] == pytest.approx(1 / 200)
    assert math.isfinite(tested.correlations[1])
    assert (math.isnan(tested.correlations[2]), tested.p_values[2], tested.family_wise[2]) == (True, 1.0, 1.0)
