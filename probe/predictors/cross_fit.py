"""Forecasts of every row by models that were not fitted on its adapters: what errors are measured on.

Adapters are dealt into folds. For every two folds (and every single one) a pair model is fitted without any label of
their adapters. A row is then forecast twice: **cold start**, by the model that saw neither of its adapters, and
**bank-aware**, by the one that lacks the fold of its newcomer only. A final model that was fitted on everything knows
more than any of them, so that its errors on new adapters are, if anything, smaller than those measured here.

What that guarantees: for one fold's model, and adapters that are exchangeable with the held-out ones, a bound from its
own residuals covers with probability 1 - alpha; over pooled folds it is cross-conformal, with 1 - 2 alpha at worst and
1 - alpha in practice. Pairs share adapters, so n pairs say less than n draws: coverage is claimed for new adapters of
the same kind, and is measured (`probe.predictors.card`).

References
----------
Vovk, "Cross-conformal predictors", Ann. Math. Artif. Intell. 74 (2015). Barber, Candes, Ramdas and Tibshirani,
"Predictive inference with the jackknife+", Ann. Stat. 49 (2021).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from probe.predictors.dataset import Numbers, PairRows
from probe.predictors.design import Matrix, blanked
from probe.predictors.options import FitOptions
from probe.predictors.pair_model import PairForecasts, PairModel
from probe.predictors.pair_training import fit_pair_model
from probe.predictors.schema import SIGNALS, Missing, Schema
from probe.predictors.views import BANK_AWARE, COLD_START
from probe.progress import OnProgress

MIN_LABELS = 10
"""Labels that a model without some folds needs; rows that it would have forecast are left out instead."""

FoldPair = tuple[int, int]
"""Folds that a model was fitted without, ascending; twice the same is that one alone."""


@dataclass(frozen=True, slots=True, eq=False)
class CrossFit:
    """Models without folds, and what they forecast.

    Attributes
    ----------
    folds
        Adapter -> fold.
    models
        By the folds that they were fitted without; those with too few labels left are not there.
    forecasts
        (`COLD_START` or `BANK_AWARE`, key of `SIGNALS`) -> (rows,); NaN where there is no model.
    """

    folds: Mapping[str, int]
    models: Mapping[FoldPair, PairModel]
    forecasts: Mapping[tuple[int, str], PairForecasts] = field(default_factory=dict)


def cross_fit(
    rows: PairRows, folds: Mapping[str, int], schema: Schema, options: FitOptions, on_progress: OnProgress
) -> CrossFit:
    """Fit a model without each fold and each two folds, and forecast every row by those that may not know it."""
    models = dict(_models(rows, folds, schema, options, on_progress))
    victim, other, newcomer = (_folds_of(names, folds) for names in (rows.victim, rows.other, _newcomers(rows)))
    held_out = {COLD_START: (victim, other), BANK_AWARE: (newcomer, newcomer)}
    forecasts = {}
    for regime, (first, second) in held_out.items():
        for key, missing in SIGNALS.items():
            forecasts[regime, key] = _forecast(rows.design, first, second, models, schema, missing)
    return CrossFit(folds, models, forecasts)


def _models(
    rows: PairRows, folds: Mapping[str, int], schema: Schema, options: FitOptions, on_progress: OnProgress
) -> Iterator[tuple[FoldPair, PairModel]]:
    victim, other = _folds_of(rows.victim, folds), _folds_of(rows.other, folds)
    held_out = list(combinations_with_replacement(sorted(set(folds.values())), 2))
    for done, pair in enumerate(held_out):
        on_progress("models without folds", done, len(held_out))
        seen = ~np.isin(victim, pair) & ~np.isin(other, pair)
        has_safe = np.isfinite(rows.is_side_safe[seen]).any()
        if has_safe and len(np.unique(rows.label[seen])) >= MIN_LABELS:
            yield pair, fit_pair_model(rows, seen, schema, options)
    on_progress("models without folds", len(held_out), len(held_out))


def _folds_of(names: NDArray[np.str_], folds: Mapping[str, int]) -> Numbers:
    return np.array([folds[name] for name in names], dtype=np.int64)


def _newcomers(rows: PairRows) -> NDArray[np.str_]:
    """Return the new one of each row: the one seen less of, or the one drawn."""
    unequal = np.where(rows.rho_victim < rows.rho_other, rows.victim, rows.other)
    return np.where(rows.rho_victim == rows.rho_other, rows.newcomer, unequal)


def _forecast(
    design: Matrix,
    first: Numbers,
    second: Numbers,
    models: Mapping[FoldPair, PairModel],
    schema: Schema,
    missing: Missing,
) -> PairForecasts:
    """Forecast each row by the model without both folds."""
    low, high = np.minimum(first, second), np.maximum(first, second)
    retention, margin = np.full((2, len(design)), math.nan)
    for (a, b), model in models.items():
        own = np.flatnonzero((low == a) & (high == b))
        found = model(blanked(design[own], schema, missing))
        retention[own], margin[own] = found.retention, found.margin
    return PairForecasts(retention, margin)
