"""Fit the gain model, and measure its errors on adapters that it was not fitted on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xgboost

from probe.bank.ceilings import Ceilings
from probe.bank.records import Records
from probe.predictors.card import GainMetrics
from probe.predictors.dataset import Numbers
from probe.predictors.design import Matrix
from probe.predictors.gain_model import GainModel, gain_design
from probe.predictors.known_features import KnownFeatures
from probe.predictors.options import FitOptions
from probe.predictors.schema import Schema
from probe.vectors import Vector

TREES: dict[str, Any] = {
    "objective": "reg:squarederror",
    "tree_method": "hist",
    "learning_rate": 0.05,
    # A bank has some dozen adapters: few splits, each over a fraction of the columns.
    "max_depth": 3,
    "colsample_bytree": 0.3,
}
NUM_TREES = 100


@dataclass(frozen=True, slots=True, eq=False)
class _GainRows:
    """(rows,): an adapter at one share of its training, its G at the end, and its fold."""

    design: Matrix
    gain: Vector
    adapter: Numbers
    fold: Numbers


def fit_gain_model(
    records: Records, folds: Mapping[str, int], schema: Schema, options: FitOptions
) -> tuple[GainModel | None, GainMetrics | None]:
    """Fit G to every adapter at every share of its training; None where no gain is known."""
    rows = _rows(records, folds, schema)
    if not len(rows.gain):
        return None, None
    everything = np.ones(len(rows.gain), dtype=np.bool_)
    return GainModel(schema, _trees(rows, everything, options)), _metrics(rows, options)


def _rows(records: Records, folds: Mapping[str, int], schema: Schema) -> _GainRows:
    ceilings, known = Ceilings(records), KnownFeatures(records)
    gains = {name: ceilings.normalised_gain(name) for name in folds}
    numbers = {name: number for number, name in enumerate(folds)}
    seen = [
        (name, evidence) for (name, _), evidence in known.adapters.items() if math.isfinite(gains.get(name, math.nan))
    ]
    names = [name for name, _ in seen]
    return _GainRows(
        design=gain_design(schema, [evidence for _, evidence in seen]),
        gain=np.array([gains[name] for name in names]),
        adapter=np.array([numbers[name] for name in names], dtype=np.int64),
        fold=np.array([folds[name] for name in names], dtype=np.int64),
    )


def _trees(rows: _GainRows, chosen: Vector | Any, options: FitOptions) -> xgboost.Booster:
    data = xgboost.QuantileDMatrix(rows.design[chosen], label=rows.gain[chosen], nthread=options.num_threads)
    own = {"base_score": float(rows.gain[chosen].mean()), "seed": options.seed, "nthread": options.num_threads}
    return xgboost.train(TREES | own, data, NUM_TREES)


def _metrics(rows: _GainRows, options: FitOptions) -> GainMetrics | None:
    errors, plain = [], []
    for fold in np.unique(rows.fold):
        seen, tested = rows.fold != fold, rows.fold == fold
        if not seen.any():
            return None
        found = _trees(rows, seen, options).inplace_predict(rows.design[tested], predict_type="margin")
        errors.append(np.abs(found - rows.gain[tested]))
        plain.append(np.abs(rows.gain[seen].mean() - rows.gain[tested]))
    return GainMetrics(
        num_adapters=len(np.unique(rows.adapter)),
        mean_absolute_error=float(np.concatenate(errors).mean()),
        error_of_the_mean=float(np.concatenate(plain).mean()),
    )
