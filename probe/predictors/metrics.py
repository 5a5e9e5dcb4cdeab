"""Metrics of the card: from forecasts that no model behind them was fitted on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from probe.predictors.card import ViewMetrics
from probe.predictors.compared import HeldOut
from probe.predictors.coverage import coverage_without_folds, level_that_covers
from probe.predictors.views import View
from probe.vectors import Vector


def metrics_of(
    kind: str, held_out: Mapping[View, HeldOut], folds: Mapping[str, int], alpha: float
) -> Iterator[ViewMetrics]:
    """Yield the metrics of every view."""
    for view, found in held_out.items():
        level = level_that_covers(found.member, folds, alpha)
        coverage, bounded_share = coverage_without_folds(found.member, folds, level)
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


def auroc(is_safe: Vector, margin: Vector) -> float | None:
    """Return the area under the ROC curve; None where one class is empty."""
    return float(roc_auc_score(is_safe, margin)) if 0 < is_safe.sum() < len(is_safe) else None


def _spearman(first: Vector, second: Vector) -> float | None:
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    value = float(spearmanr(first, second).statistic)
    return value if math.isfinite(value) else None
