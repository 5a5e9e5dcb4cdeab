"""Weighted set packing against brute force."""

from __future__ import annotations

import random
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from router.packing import WeightedSet, exact_packing, near_packing, upper_bound

LETTERS = "abcdefgh"


@st.composite
def problems(draw: st.DrawFn) -> list[WeightedSet]:
    drawn = draw(st.lists(st.sets(st.sampled_from(LETTERS), min_size=2, max_size=4), max_size=10, unique_by=frozenset))
    return [WeightedSet(frozenset(elements), draw(st.floats(0.01, 2.0))) for elements in drawn]


def weight(sets: list[WeightedSet], places: tuple[int, ...]) -> float:
    return sum(sets[place].weight for place in places)


def is_packing(sets: list[WeightedSet], places: tuple[int, ...]) -> bool:
    chosen = [sets[place].elements for place in places]
    return len(frozenset().union(*chosen)) == sum(map(len, chosen))


def brute_force(sets: list[WeightedSet]) -> float:
    choices = (choice for size in range(len(sets) + 1) for choice in combinations(range(len(sets)), size))
    return max(weight(sets, choice) for choice in choices if is_packing(sets, choice))


@settings(max_examples=150, deadline=None)
@given(sets=problems())
def test_the_exact_packing_is_the_best_of_all(sets: list[WeightedSet]) -> None:
    found = exact_packing(sets)
    assert is_packing(sets, found)
    assert weight(sets, found) == pytest.approx(brute_force(sets))


@settings(max_examples=60, deadline=None)
@given(sets=problems(), window=st.integers(4, 8))
def test_a_near_packing_is_a_packing_below_the_bound(sets: list[WeightedSet], window: int) -> None:
    found = near_packing(sets, window)
    assert is_packing(sets, found)
    assert weight(sets, found) <= brute_force(sets) + 1e-9 <= upper_bound(sets) + 2e-9


@settings(max_examples=60, deadline=None)
@given(sets=problems())
def test_a_window_as_large_as_the_problem_finds_the_best(sets: list[WeightedSet]) -> None:
    assert weight(sets, near_packing(sets, len(LETTERS))) == pytest.approx(brute_force(sets))


def large(seed: int, num_elements: int = 30, num_sets: int = 90) -> list[WeightedSet]:
    luck = random.Random(seed)
    elements = [f"{number:03d}" for number in range(num_elements)]
    drawn = {frozenset(luck.sample(elements, luck.randint(2, 5))) for _ in range(num_sets)}
    return [WeightedSet(one, 0.5 * (len(one) - 1) - 0.3 * luck.random()) for one in sorted(drawn, key=sorted)]


def optimum(sets: list[WeightedSet]) -> float:
    """Return the weight of the best packing by branch and bound."""
    elements = sorted(frozenset().union(*(one.elements for one in sets)))
    holds = np.array([[element in one.elements for one in sets] for element in elements], dtype=float)
    solved = milp(
        -np.array([one.weight for one in sets]),
        constraints=LinearConstraint(holds, ub=1),
        integrality=np.ones(len(sets)),
        bounds=Bounds(0, 1),
    )
    return float(-solved.fun)


@pytest.mark.parametrize("seed", range(6))
def test_large_packings_come_close_to_the_best(seed: int) -> None:
    sets = large(seed)
    found = near_packing(sets, 12)
    assert is_packing(sets, found)
    best = optimum(sets)
    assert 0.95 * best <= weight(sets, found) <= best + 1e-6 <= upper_bound(sets) + 2e-6


def test_a_good_start_is_kept_or_improved() -> None:
    sets = large(0)
    start = near_packing(sets[: len(sets) // 2], 12)
    assert weight(sets, near_packing(sets, 12, start)) >= weight(sets, start)


def test_nothing_to_pack_is_an_empty_packing() -> None:
    assert exact_packing([]) == near_packing([], 12) == ()
    assert upper_bound([]) == 0.0
