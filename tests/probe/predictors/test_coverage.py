"""Levels of bounds: what covers the labels of adapters that the bounds were not made with."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from probe.predictors.compared import Compared
from probe.predictors.coverage import coverage_without_folds, level_that_covers

ALPHA = 0.1
NAMES = [f"a{number}" for number in range(20)]
FOLDS = {name: number % 5 for number, name in enumerate(NAMES)}


def compared(errors: dict[tuple[str, ...], float]) -> Compared:
    """Return labels of merges by their errors."""
    members = list(errors)
    forecast = np.array([errors[one] for one in members])
    return Compared(forecast, np.zeros(len(members)), ["merge"] * len(members), ["ta"] * len(members), members)


def errors_of(shared: float, seed: int) -> dict[tuple[str, ...], float]:
    """Return errors of pairs, to which adapters of a fold bring much the same; 1 in variance, together."""
    draw = np.random.default_rng(seed)
    own = draw.normal(size=5)
    return {
        (a, b): float(np.sqrt(shared / 2) * (own[FOLDS[a]] + own[FOLDS[b]]) + np.sqrt(1 - shared) * draw.normal())
        for a, b in combinations(NAMES, 2)
    }


def test_draws_that_are_alike_need_no_other_level() -> None:
    """Nominal 90 % within chance, and where chance is against it, little less than alpha is enough."""
    levels = [level_that_covers(compared(errors_of(0.0, seed)), FOLDS, ALPHA) for seed in range(20)]
    assert np.mean(levels) > 0.75 * ALPHA


def test_errors_that_adapters_share_take_a_smaller_level_and_then_cover() -> None:
    plain, adapted, levels = [], [], []
    for seed in range(20):
        found = compared(errors_of(0.5, seed))
        levels.append(level_that_covers(found, FOLDS, ALPHA))
        plain.append(coverage_without_folds(found, FOLDS, ALPHA)[0] or 0.0)
        adapted.append(coverage_without_folds(found, FOLDS, levels[-1])[0] or 0.0)
    assert np.mean(plain) < 0.885
    assert np.mean(adapted) >= 0.9
    assert np.mean(levels) < 0.75 * ALPHA


def test_few_labels_bound_nothing_and_keep_the_level() -> None:
    few = compared({("a0", "a1"): 0.1, ("a2", "a3"): 0.2, ("a1", "a2"): 0.1})
    assert coverage_without_folds(few, FOLDS, ALPHA) == (None, 0.0)
    assert level_that_covers(few, FOLDS, ALPHA) == ALPHA


def test_where_no_level_covers_nothing_is_claimed() -> None:
    """Each fold of adapters errs further than all before it, so that no bound from others holds for the last."""
    wild = {(a, b): float(FOLDS[a]) for a, b in combinations(NAMES, 2) if FOLDS[a] == FOLDS[b]}
    level = level_that_covers(compared(wild), FOLDS, ALPHA)
    assert level < ALPHA
    assert coverage_without_folds(compared(wild), FOLDS, level) == (None, 0.0)
