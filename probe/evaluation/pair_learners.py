"""What is compared on pairs: the learned model and every baseline, all fitted to the same rows.

How to add one: write a function ``(PairData, seen) -> forecaster`` and add its row to `PAIR_LEARNERS`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from probe.evaluation.pair_trials import PairData, PairForecaster, PairLearner
from probe.predictors.design import Matrix, blanked
from probe.predictors.options import FitOptions
from probe.predictors.pair_model import PairForecasts
from probe.predictors.pair_training import fit_pair_model, related_columns
from probe.predictors.schema import RECIPE, SIGNALS
from probe.signals import Family

LEARNED = "learned model"
PENALTY = 100.0
"""Of ridge, and its inverse of the logistic regression, on standardised columns: there are more of them than labels."""
HIDDEN, DECAY, LEARNING_RATE, MAX_EPOCHS = 32, 10.0, 3e-3, 40
"""Of the small network: some 8,000 parameters, held down by the decay."""
REACH = 4.0
"""Standard deviations beyond which a column counts as that far: products of norms have long tails."""
LEAST_PROBABILITY = 1e-3
"""A base rate of 0 or 1 among a few merges is not certainty."""

Flags = NDArray[np.bool_]
Columns = NDArray[np.int64]


def learned(options: FitOptions) -> PairLearner:
    """Return the pair model, which reads only the families that the options name."""

    def fit(data: PairData, seen: Flags) -> PairForecaster:
        schema = replace(data.schema, families=frozenset(family.value for family in options.families))
        if schema == data.schema:
            return fit_pair_model(data.rows, seen, schema, options)
        # Blanked again where it is asked: both halves of the data are to lack the other families.
        rows = replace(data.rows, design=blanked(data.rows.design, schema, frozenset()))
        model = fit_pair_model(rows, seen, schema, options)
        return lambda design: model(blanked(design, schema, frozenset()))

    return fit


def constant(data: PairData, seen: Flags) -> PairForecaster:
    """Forecast the median Ret and the share of safe sides, whatever is asked."""
    retention = float(np.median(data.rows.retention[seen]))
    margin = _log_odds(data.rows.is_side_safe[seen])
    return lambda design: PairForecasts(np.full(len(design), retention), np.full(len(design), margin))


def recipe_only(data: PairData, seen: Flags) -> PairForecaster:
    """Forecast from how is merged alone: which operator, how weighted, what is left out."""
    return _linear(data, seen, _named(data, lambda _: False))


def cosine_only(data: PairData, seen: Flags) -> PairForecaster:
    """Forecast from the cosine of the two updates, and the recipe."""
    return _linear(data, seen, _named(data, lambda name: name.startswith("ij: cosine/")))


def weights_only(data: PairData, seen: Flags) -> PairForecaster:
    """Forecast by ridge regression from whatever can be measured on weights, and the recipe."""
    return _linear(data, seen, np.flatnonzero(~data.schema.is_blank(SIGNALS["weights only"])))


def small_network(options: FitOptions) -> PairLearner:
    """Return a small network on the columns that the learned model reads (Appendix I of the paper)."""

    def fit(data: PairData, seen: Flags) -> PairForecaster:
        places = np.flatnonzero(seen)
        columns = related_columns(data.rows, places, data.schema, options.columns_per_block)
        own: dict[str, Any] = {
            "hidden_layer_sizes": (HIDDEN,),
            "alpha": DECAY,
            "learning_rate_init": LEARNING_RATE,
            "max_iter": MAX_EPOCHS,
            "random_state": options.seed,
        }
        with warnings.catch_warnings():
            # Stopping after `MAX_EPOCHS` is meant: it keeps the network from learning the adapters by heart.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return _estimated(data, seen, columns, MLPRegressor(**own), MLPClassifier(**own))

    return fit


@dataclass(frozen=True, slots=True)
class Competitor:
    """A row of the table of baselines: how it is called, what it knows, and what makes it from the options of a fit."""

    name: str
    knows: str
    learner: Callable[[FitOptions], PairLearner]


PAIR_LEARNERS: Mapping[str, Competitor] = {
    row.name: row
    for row in (
        Competitor(LEARNED, "all signals and the recipe", learned),
        Competitor("constant", "nothing", lambda _: constant),
        Competitor("recipe only", "operator, norm, weights, pruned parts", lambda _: recipe_only),
        Competitor(
            "metadata only",
            "metadata and the recipe; the same trees",
            lambda options: learned(replace(options, families=frozenset({Family.METADATA}))),
        ),
        Competitor("cosine only", "cosine of the updates and the recipe; linear", lambda _: cosine_only),
        Competitor("ridge", "all that can be measured on weights, and the recipe; linear", lambda _: weights_only),
        Competitor("small network", "the columns of the learned model", small_network),
    )
}
"""The permutation null is no row here: it is the learned model, taught with labels that changed places."""


def _named(data: PairData, keep: Callable[[str], bool]) -> Columns:
    """Return the recipe's columns, and those whose names are kept."""
    columns = enumerate(data.schema.columns)
    return np.array([place for place, one in columns if one.family == RECIPE or keep(one.name)], dtype=np.int64)


def _linear(data: PairData, seen: Flags, columns: Columns) -> PairForecaster:
    return _estimated(data, seen, columns, Ridge(PENALTY), LogisticRegression(C=1 / PENALTY, max_iter=500))


def _estimated(
    data: PairData, seen: Flags, columns: Columns, regressor: BaseEstimator, classifier: BaseEstimator
) -> PairForecaster:
    """Fit two estimators to standardised columns, gaps filled with the median."""
    rows = data.rows
    known = np.flatnonzero(seen & np.isfinite(rows.is_side_safe))
    read = partial(_read, columns=columns)
    retention = _prepared(regressor).fit(read(rows.design[seen]), rows.retention[seen])
    has_both = len(np.unique(rows.is_side_safe[known])) > 1
    safe = _prepared(classifier).fit(read(rows.design[known]), rows.is_side_safe[known]) if has_both else None
    prior = _log_odds(rows.is_side_safe[seen])

    def forecast(design: Matrix) -> PairForecasts:
        own = read(design)
        margin = np.full(len(own), prior) if safe is None else _clipped_log_odds(safe.predict_proba(own)[:, 1])
        return PairForecasts(np.asarray(retention.predict(own), dtype=np.float64), margin)

    return forecast


def _read(design: Matrix, columns: Columns) -> NDArray[np.float64]:
    return np.asarray(design[:, columns], dtype=np.float64)


def _prepared(estimator: BaseEstimator) -> BaseEstimator:
    """Put an estimator behind what fills gaps and standardises; a new adapter beyond the range is not extrapolated."""
    gaps = SimpleImputer(strategy="median", keep_empty_features=True)
    within = FunctionTransformer(np.clip, kw_args={"a_min": -REACH, "a_max": REACH})
    return make_pipeline(gaps, StandardScaler(), within, estimator)


def _log_odds(is_safe: NDArray[np.float64]) -> float:
    """Return the log-odds of the share of safe sides among those known; 0 without any."""
    known = is_safe[np.isfinite(is_safe)]
    return float(_clipped_log_odds(known.mean())) if known.size else 0.0


def _clipped_log_odds(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(logit(np.clip(probability, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)))
