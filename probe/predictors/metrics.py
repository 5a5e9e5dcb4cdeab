"""Metrics of the card: from forecasts that no model behind them was fitted on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from probe.predictors.calibration import Compared, HeldOut
from probe.predictors.card import ViewMetrics
from probe.predictors.conformal import narrowest, radii
from probe.predictors.views import View
from probe.vectors import Vector


def metrics_of(
    kind: str, held_out: Mapping[View, HeldOut], folds: Mapping[str, int], alpha: float
) -> Iterator[ViewMetrics]:
    """Yield the metrics of every view."""
    for view, found in held_out.items():
        coverage, bounded_share = coverage_without_folds(found.member, folds, alpha)
        yield ViewMetrics(
            kind=kind,
            view=view.key,
            num_labels=len(found.member.forecast),
            num_merges=len(found.worst.forecast),
            mean_absolute_error=float(np.abs(found.member.errors).mean()),
            spearman=_spearman(found.member.forecast, found.member.measured),
            auroc=auroc(found.is_safe, found.margin),
            safe_share=float(found.is_safe.mean()) if len(found.is_safe) else None,
            coverage=coverage,
            bounded_share=bounded_share,
        )


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


def auroc(is_safe: Vector, margin: Vector) -> float | None:
    """Return the area under the ROC curve; None where one class is empty."""
    return float(roc_auc_score(is_safe, margin)) if 0 < is_safe.sum() < len(is_safe) else None


def _spearman(first: Vector, second: Vector) -> float | None:
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    value = float(spearmanr(first, second).statistic)
    return value if math.isfinite(value) else None
