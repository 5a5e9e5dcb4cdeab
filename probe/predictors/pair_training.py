"""Fit the pair model: rows in all states of knowledge and copies with less, every label with weight 1 in sum.

References
----------
Chen and Guestrin, "XGBoost", KDD 2016. Elkan, "The Foundations of Cost-Sensitive Learning", IJCAI 2001: what class
balancing does to odds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray
from scipy.stats import rankdata

from probe.predictors.dataset import Numbers, PairRows
from probe.predictors.design import Matrix
from probe.predictors.options import FitOptions
from probe.predictors.pair_model import PairModel, PairTrees
from probe.predictors.schema import RECIPE, SIGNALS, Schema
from probe.vectors import Vector

MAX_ROWS = 10_000
"""Rows of one fit, copies included; of more a sample is drawn, because copies of one label say little that is new."""
TREES: dict[str, Any] = {
    "tree_method": "hist",
    # More bins cost time in proportion, and a signal of one adapter has as many values as there are adapters.
    "max_bin": 32,
    "learning_rate": 0.05,
    # In labels, or less: the pseudo-Huber hessian is far below 1 on whatever is off.
    "min_child_weight": 1.0,
}
"""Parameters that all trees share."""
WIDE: dict[str, Any] = {"colsample_bytree": 0.3}
NARROW: dict[str, Any] = {"colsample_bytree": 0.5, "subsample": 0.7}
"""What each tree is given of the columns and rows. Few columns need no more than this to differ."""
NARROW_DEPTH = 3


@dataclass(frozen=True, slots=True, eq=False)
class Copies:
    """Training rows: which row each is a copy of, and what it is worth."""

    source: Numbers
    design: Matrix
    weight: Vector


def fit_pair_model(rows: PairRows, chosen: NDArray[np.bool_], schema: Schema, options: FitOptions) -> PairModel:
    """Fit trees to the chosen rows; there is at least one.

    Parameters
    ----------
    chosen
        (rows,), which rows may be seen.
    """
    places = np.flatnonzero(chosen)
    columns = related_columns(rows, places, schema, options.columns_per_block)
    wide = _trees(rows, columns, copies_of(rows, places, columns, schema, options.seed), options, WIDE)
    return PairModel(wide, _narrow(rows, places, schema, options), schema.kept_position)


def _narrow(rows: PairRows, places: Numbers, schema: Schema, options: FitOptions) -> PairTrees | None:
    """Return trees that read losses and the recipe, fitted where losses were measured."""
    known = places[np.isfinite(rows.design[places, schema.kept_position])]
    if not np.isfinite(rows.is_side_safe[known]).any():
        return None
    columns = schema.loss_columns
    copies = Copies(known, rows.design[np.ix_(known, columns)], _shares(rows.label[known]))
    fewer = replace(options, num_trees=options.num_trees // 2, depth=min(options.depth, NARROW_DEPTH))
    return _trees(rows, columns, copies, fewer, NARROW)


def _trees(
    rows: PairRows, columns: Numbers, copies: Copies, options: FitOptions, sampling: dict[str, Any]
) -> PairTrees:
    limits = {"max_depth": options.depth, "seed": options.seed, "nthread": options.num_threads}
    parameters = TREES | sampling | limits
    return PairTrees(
        columns=columns,
        regressor=_regressor(rows, copies, parameters, options),
        # Half as many: the log-loss of so few labels overfits sooner than the error of Ret.
        **_classifier(rows, copies, parameters, options.num_trees // 2),
    )


def related_columns(rows: PairRows, places: Numbers, schema: Schema, count: int | None) -> Numbers:
    """Return the columns of each block that are most correlated with Ret by rank, and all of the recipe.

    Finished pairs count, one row a label. An unknown entry adds nothing, so a column that is seldom known ranks low.
    """
    finished = places[rows.is_finished[places]]
    used = finished if len(finished) else places
    target = _centred_ranks(rows.retention[used][:, None])[:, 0]
    kept = []
    for name, block in zip(schema.blocks, schema.slices(), strict=True):
        positions = np.arange(block.start, block.stop)
        if name != RECIPE and count is not None:
            ranks = _centred_ranks(rows.design[used, block])
            strength = np.abs(target @ ranks) / np.maximum(np.sqrt((ranks * ranks).sum(axis=0)), 1e-12)
            positions = np.sort(positions[np.argsort(-strength, kind="stable")[:count]])
        kept.append(positions)
    return np.concatenate(kept)


def _centred_ranks(columns: NDArray[Any]) -> Vector:
    """Return ranks (rows, columns) less their mean over known entries; 0 where unknown."""
    ranks = rankdata(columns, axis=0, nan_policy="omit")
    known = np.isfinite(ranks)
    centre = np.where(known, ranks, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.where(known, ranks - centre, 0.0)


def copies_of(rows: PairRows, places: Numbers, columns: Numbers, schema: Schema, seed: int) -> Copies:
    """Return every chosen row as it is, and once with less known, drawn; at most `MAX_ROWS`, but all finished pairs."""
    draw = np.random.default_rng(seed)
    source = np.concatenate([places, places])
    hidden = np.concatenate([np.zeros_like(places), draw.integers(1, len(SIGNALS), size=len(places))])
    is_kept = rows.is_finished[source] & (hidden == 0)
    others = draw.permutation(np.flatnonzero(~is_kept))
    sample = np.sort(np.concatenate([np.flatnonzero(is_kept), others[: max(0, MAX_ROWS - int(is_kept.sum()))]]))
    source, hidden = source[sample], hidden[sample]
    design = rows.design[np.ix_(source, columns)]
    for number, missing in enumerate(SIGNALS.values()):
        design[np.ix_(hidden == number, schema.is_blank(missing)[columns])] = math.nan
    return Copies(source, design, _shares(rows.label[source]))


def _shares(groups: Numbers) -> Vector:
    """Return 1 over the size of each row's group."""
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / counts[place])


def _regressor(rows: PairRows, copies: Copies, parameters: Mapping[str, Any], options: FitOptions) -> xgboost.Booster:
    target = rows.retention[copies.source]
    parameters = dict(parameters) | {
        "objective": "reg:pseudohubererror",
        "huber_slope": options.huber_slope,
        "base_score": float(np.median(target)),
    }
    return _train(copies.design, target, copies.weight, parameters, options.num_trees)


def _classifier(rows: PairRows, copies: Copies, parameters: Mapping[str, Any], num_trees: int) -> dict[str, Any]:
    """Return the class-balanced classifier of one side, and what balancing does to its log-odds.

    Sides, because a merge has two and each says something: that both are safe is seldom, and hard to learn from.
    """
    is_known = np.isfinite(rows.is_side_safe[copies.source])
    target, weight = rows.is_side_safe[copies.source][is_known], _shares(rows.label[copies.source[is_known]])
    safe, unsafe = float(weight[target == 1].sum()), float(weight[target == 0].sum())
    balance = unsafe / safe if safe and unsafe else 1.0
    parameters = dict(parameters) | {"objective": "binary:logistic", "base_score": 0.5, "scale_pos_weight": balance}
    trees = _train(copies.design[is_known], target, weight, parameters, num_trees)
    return {"classifier": trees, "log_odds_shift": math.log(balance)}


def _train(
    design: Matrix, target: Vector, weight: Vector, parameters: Mapping[str, Any], num_trees: int
) -> xgboost.Booster:
    data = xgboost.QuantileDMatrix(
        design, label=target, weight=weight, max_bin=parameters["max_bin"], nthread=parameters["nthread"]
    )
    return xgboost.train(dict(parameters), data, num_trees)
