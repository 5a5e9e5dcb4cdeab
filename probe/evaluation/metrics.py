"""Metrics of forecasts, each a function of row weights, so that one bootstrap over adapters serves them all.

A metric takes weights (m, rows) and returns (m,). The value is that of equal weights, the interval that of random ones
(`probe.bank.report.statistics.adapter_weights`), and the same rows give the same weights: the difference of two metrics
is paired.

References
----------
Guo et al., "On Calibration of Modern Neural Networks", ICML 2017: expected calibration error. Kumar et al., "Verified
Uncertainty Calibration", NeurIPS 2019: equal-mass bins. Brier, Mon. Weather Rev. 78 (1950).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from probe.bank.report.statistics import (
    NUM_RESAMPLES,
    ROUNDING,
    Estimate,
    Vector,
    adapter_weights,
    estimate,
    generator,
    sharing,
    weighted_spearman,
)

NUM_BINS = 10
"""Bins of the calibration error; each holds as many merges as any other."""
MIN_PER_BIN = 10
"""Fewer merges a bin than this, and there are fewer bins: a bin's share would be noise."""

Metric = Callable[[Vector], Vector]
Flags = NDArray[np.bool_]
Members = Sequence[Sequence[str]]


def over_adapters(metric: Metric, members: Members, unit: str) -> Estimate:
    """Return a metric with its interval, clustered by adapter.

    Parameters
    ----------
    members
        The adapters of every row.
    unit
        What the rows are, such as ``merges``.
    """
    if not len(members):
        return Estimate(math.nan, -math.inf, math.inf, 0, unit)
    found = metric(np.concatenate([np.ones((1, len(members))), adapter_weights(members)]))
    return estimate(float(found[0]), found[1:], len(members), unit, *sharing(members))


def lead(metric: Metric, other: Metric) -> Metric:
    """Return by how much one metric exceeds another over the same rows."""
    return lambda weights: metric(weights) - other(weights)


def mean(values: Vector | Flags) -> Metric:
    """Return the mean of (rows,) values."""
    array = np.asarray(values, dtype=np.float64)

    def of(weights: Vector) -> Vector:
        return np.asarray(weights @ array / weights.sum(axis=1))

    return of


def auroc(scores: Vector, is_safe: Flags, strata: Sequence[object] | None = None) -> Metric:
    """Return the area under the ROC curve: how often a safe merge scores above an unsafe one, ties counting half.

    0.5 is chance, 1 is perfect; NaN where either class is missing.

    Parameters
    ----------
    strata
        Only merges of one stratum are compared with each other; None compares all.
    """
    parts = [(scores[rows], is_safe[rows], rows) for rows in _rows_of(strata, len(scores))]

    def of(weights: Vector) -> Vector:
        won, compared = np.zeros((2, len(weights)))
        for own, flags, rows in parts:
            more, mass = _won(own, flags, weights[:, rows])
            won, compared = won + more, compared + mass
        return np.asarray(np.divide(won, compared, out=np.full(len(weights), np.nan), where=compared > 0))

    return of


def _won(scores: Vector, is_safe: Flags, weights: Vector) -> tuple[Vector, Vector]:
    """Return the weight of (safe, unsafe) pairs of merges that are in the right order, and of all of them."""
    _, group = np.unique(scores, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    safe, unsafe = (np.add.reduceat((weights * flag)[:, order], starts, axis=1) for flag in (is_safe, ~is_safe))
    below = np.cumsum(unsafe, axis=1) - unsafe / 2
    return (safe * below).sum(axis=1), safe.sum(axis=1) * unsafe.sum(axis=1)


def spearman(forecast: Vector, measured: Vector, strata: Sequence[object] | None = None) -> Metric:
    """Return Spearman's correlation; NaN where a column is constant.

    Parameters
    ----------
    strata
        Ranks are taken within each, and correlations averaged by weight, those that are defined; None is one stratum.
    """
    parts = [(forecast[rows], measured[rows], rows) for rows in _rows_of(strata, len(forecast))]

    def of(weights: Vector) -> Vector:
        found = np.stack([weighted_spearman(x, y, weights[:, rows]) for x, y, rows in parts])
        mass = np.stack([weights[:, rows].sum(axis=1) for _, _, rows in parts]) * np.isfinite(found)
        total = mass.sum(axis=0)
        summed = (mass * np.nan_to_num(found)).sum(axis=0)
        return np.asarray(np.divide(summed, total, out=np.full(len(weights), np.nan), where=total > 0))

    return of


def _rows_of(strata: Sequence[object] | None, count: int) -> list[NDArray[np.int64]]:
    """Return the rows of each stratum."""
    rows: dict[object, list[int]] = {}
    for row, stratum in enumerate([None] * count if strata is None else strata):
        rows.setdefault(stratum, []).append(row)
    return [np.array(own, dtype=np.int64) for own in rows.values()]


def mean_absolute_error(forecast: Vector, measured: Vector) -> Metric:
    """Return the mean absolute error, in units of Ret."""
    return mean(np.abs(forecast - measured))


def brier(probability: Vector, is_safe: Flags) -> Metric:
    """Return the mean squared error of probabilities; 0 is perfect, 0.25 is always saying one half."""
    return mean((probability - is_safe) ** 2)


def calibration_error(probability: Vector, is_safe: Flags) -> Metric:
    """Return the expected calibration error over equal-mass bins: 0 is perfect."""
    error, bins = probability - is_safe, equal_mass_bins(probability)

    def of(weights: Vector) -> Vector:
        off = [np.abs(weights[:, rows] @ error[rows]) for rows in bins]
        return np.asarray(np.sum(off, axis=0) / weights.sum(axis=1))

    return of


def calibration_error_by_chance(probability: Vector) -> float:
    """Return the calibration error that perfectly calibrated probabilities show on as many merges, by their noise."""
    draw = generator().uniform(size=(NUM_RESAMPLES, len(probability)))
    whole = np.ones((1, len(probability)))
    return float(np.mean([calibration_error(probability, one < probability)(whole)[0] for one in draw]))


def equal_mass_bins(values: Vector, most: int = NUM_BINS) -> list[NDArray[np.int64]]:
    """Return the rows of at most so many bins, lowest values first, as many in each as in any other.

    Equal values are in one bin, so that their order says nothing.
    """
    num_bins = max(1, min(most, len(values) // MIN_PER_BIN))
    place = np.floor((rankdata(values) - 0.5) * num_bins / max(len(values), 1))
    return [np.flatnonzero(place == own) for own in np.unique(place)]


def permutation_p_value(
    forecast: Vector, measured: Vector, blocks: Sequence[object], strata: Sequence[object], num: int = NUM_RESAMPLES - 1
) -> float:
    """Return the share of shuffles that reach Spearman's correlation, one-sided: higher is better.

    What was measured changes places whole merge by whole merge, within a stratum: both sides of a pair stay together.
    Shuffles do not know that merges share adapters; the bootstrap's interval does.

    Parameters
    ----------
    blocks
        The merge of every row.
    strata
        What may change places: the same operator and number of members.
    """
    ranks, target = (rankdata(column) - (len(column) + 1) / 2 for column in (forecast, measured))
    spread = np.sqrt((ranks @ ranks) * (target @ target))
    if not spread > 0:
        return 1.0
    null = target[_shuffles(blocks, strata, num)] @ ranks / spread
    return float((1 + (null >= ranks @ target / spread - ROUNDING).sum()) / (1 + num))


def _shuffles(blocks: Sequence[object], strata: Sequence[object], num: int) -> NDArray[np.int64]:
    """Return (num, rows): which row each row's measurement is taken from."""
    rows: dict[tuple[object, object], list[int]] = {}
    for row, key in enumerate(zip(strata, blocks, strict=True)):
        rows.setdefault(key, []).append(row)
    exchangeable: dict[tuple[object, int], list[list[int]]] = {}
    for (stratum, _), block in rows.items():
        exchangeable.setdefault((stratum, len(block)), []).append(block)
    draw = generator()
    order = np.tile(np.arange(len(blocks)), (num, 1))
    for some in exchangeable.values():
        here = np.asarray(some)
        for one in order:
            one[here.ravel()] = draw.permutation(here).ravel()
    return order
