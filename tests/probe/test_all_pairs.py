import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.all_pairs import PairMatrices, all_pairs
from probe.factors import scaled
from probe.profiles import AdapterProfile, profile_of
from probe.signals import PAIR_SIGNALS, Pair, measure_pair
from probe.signals.summary import weighted_mean
from tests import tiny

SHAPES = {"a": (20, 12), "b": (9, 16), "c": (12, 12)}


def bank(seed: int, count: int) -> list[AdapterProfile]:
    """Return adapters of mixed ranks and modules, one of which is zero."""
    patterns: list[dict[str, int]] = [{"a": 2, "b": 1}, {"a": 3, "b": 5, "c": 4}, {"c": 2}, {"a": 1, "b": 2}]
    updates = [tiny.random_update(seed + i, patterns[i % 4], SHAPES) for i in range(count)]
    updates[-1] = scaled(updates[-1], 0.0)
    return [profile_of(update) for update in updates]


def one_by_one(signal: str, pair: Pair) -> float:
    values = measure_pair(PAIR_SIGNALS[signal], pair).values
    if "" in values or not values:
        return values.get("", math.nan)
    return weighted_mean(values, {name: a.norm * b.norm for name, (a, b) in pair.modules.items()})


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(2, 9), tile_columns=st.sampled_from([1, 7, 10, 2048]))
def test_all_pairs_are_what_the_signals_say_of_each(seed: int, count: int, tile_columns: int) -> None:
    profiles = bank(seed, count)
    matrices = all_pairs(profiles, tile_columns)
    for signal, matrix in (
        ("update_cosine", matrices.cosine),
        ("update_norm_ratio", matrices.norm_ratio),
        ("overlap_in", matrices.overlap_in),
        ("overlap_out", matrices.overlap_out),
    ):
        expected = [[one_by_one(signal, Pair(a, b)) for b in profiles] for a in profiles]
        np.testing.assert_allclose(matrix, expected, rtol=1e-4, atol=1e-5)


def test_overlap_above_chance_is_the_mean_of_both_sides() -> None:
    matrices = all_pairs(bank(0, 4))
    expected = (matrices.overlap_in + matrices.overlap_out) / 2
    np.testing.assert_array_equal(matrices.overlap_above_chance, expected)


def test_the_neighbours_are_the_closest_by_absolute_cosine() -> None:
    cosine = np.array([[1, 0.1, -0.9, np.nan], [0.1, 1, 0, 0], [-0.9, 0, 1, 0], [np.nan, 0, 0, 1]])
    matrices = PairMatrices(cosine, cosine, cosine, cosine)
    assert matrices.neighbours(0, 2) == [2, 1]
    assert matrices.neighbours(0, 10) == [2, 1, 3]


def test_a_bank_of_one_and_an_empty_bank() -> None:
    assert all_pairs(bank(0, 2)[:1]).cosine == pytest.approx(np.ones((1, 1)))
    assert all_pairs([]).cosine.shape == (0, 0)
