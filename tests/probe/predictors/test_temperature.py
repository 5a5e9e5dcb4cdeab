"""Temperature scaling against a search by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from probe.predictors.temperature import BOUNDS, MIN_OF_A_CLASS, probability, temperature


def log_loss(margin: np.ndarray, is_safe: np.ndarray) -> float:
    return float(-np.log(np.where(is_safe == 1, expit(margin), expit(-margin))).mean())


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_it_undoes_what_log_odds_are_stretched_by(scale: float) -> None:
    draw = np.random.default_rng(1)
    margin = draw.normal(0, 2, size=20_000)
    is_safe = (draw.uniform(size=margin.size) < expit(margin)).astype(float)
    found = temperature(margin * scale, is_safe)
    assert found == pytest.approx(scale, rel=0.05)
    assert probability(margin * scale, found).mean() == pytest.approx(is_safe.mean(), abs=0.02)


def test_nothing_on_a_grid_does_better() -> None:
    draw = np.random.default_rng(2)
    margin = draw.normal(0.5, 3, size=200)
    is_safe = (draw.uniform(size=200) < expit(margin / 2 - 0.4)).astype(float)
    found = temperature(margin, is_safe)
    grid = np.geomspace(*BOUNDS, 400)
    assert log_loss(margin / found, is_safe) <= min(log_loss(margin / t, is_safe) for t in grid) + 1e-6


@pytest.mark.parametrize("num_safe", [MIN_OF_A_CLASS - 1, 200 - MIN_OF_A_CLASS + 1])
def test_with_too_few_of_a_class_nothing_is_changed(num_safe: int) -> None:
    is_safe = (np.arange(200) < num_safe).astype(float)
    assert temperature(np.linspace(-3, 9, 200), is_safe) == 1.0


def test_hopeless_log_odds_stay_within_bounds() -> None:
    is_safe = np.arange(100) % 2.0
    assert BOUNDS[0] <= temperature(np.where(is_safe == 1, -5.0, 5.0), is_safe) <= BOUNDS[1]
    assert BOUNDS[0] <= temperature(np.where(is_safe == 1, 5.0, -5.0), is_safe) <= BOUNDS[1]
