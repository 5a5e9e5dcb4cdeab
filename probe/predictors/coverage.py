"""How often bounds hold for adapters that they were not made with, and how wide they must be for it.

Conformal bounds cover labels that are exchangeable with those they come from. Labels of one adapter are alike, and a
new adapter is another draw: bounds from some adapters miss the labels of others more often than they say, the more so
the fewer there are. So the level is not taken as it is, but as what covers when a fold of adapters is left out.

References
----------
Dunn, Wasserman and Ramdas, "Distribution-Free Prediction Sets for Two-Layer Hierarchical Models", JASA 118 (2023): why
labels within groups are no exchangeable draws. Gibbs and Candes, "Adaptive Conformal Inference Under Distribution
Shift", arXiv 2106.00170: the level as what is adapted until the coverage is as wanted.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from probe.predictors.compared import Compared
from probe.predictors.conformal import narrowest, radii
from probe.vectors import Vector

SHARES_OF_ALPHA = (1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2)
"""Levels that are tried, as shares of alpha. Under a fifth of it radii come from the last few errors."""


def level_that_covers(found: Compared, folds: Mapping[str, int], alpha: float) -> float:
    """Return the largest level, alpha at most, at which bounds without a fold of adapters miss a share alpha of it.

    Bounds that are infinite miss nothing. Where no level does, the smallest.
    """
    for level in (share * alpha for share in SHARES_OF_ALPHA):
        coverage, _ = coverage_without_folds(found, folds, level)
        if coverage is None or coverage >= 1 - alpha:
            break
    return level


def coverage_without_folds(found: Compared, folds: Mapping[str, int], alpha: float) -> tuple[float | None, float]:
    """Return the coverage of bounds from other adapters, and the share of labels that have such a bound.

    For every fold of adapters, radii come from merges without any adapter of it, and are held against those with one.
    """
    groups = [{folds[name] for name in members} for members in found.members]
    errors, bounds = [], []
    for fold in sorted(set().union(*groups)):
        is_tested = np.array([fold in group for group in groups])
        errors.append(found.errors[is_tested])
        bounds.append(_radius_of_each(found, is_tested, alpha))
    error, bound = np.concatenate(errors), np.concatenate(bounds)
    is_bounded = np.isfinite(bound)
    covered = float((error <= bound)[is_bounded].mean()) if is_bounded.any() else None
    return covered, float(is_bounded.mean())


def _radius_of_each(found: Compared, is_tested: NDArray[np.bool_], alpha: float) -> Vector:
    """Return the radius of every tested row, from all others."""
    used, tested = np.flatnonzero(~is_tested), np.flatnonzero(is_tested)
    known = radii(
        found.errors[used], [found.actions[row] for row in used], [found.operators[row] for row in used], alpha
    )
    return np.array([narrowest(known, found.actions[row], found.operators[row])[1].value for row in tested])
