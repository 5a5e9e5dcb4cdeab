"""Retention and gain from per-row scores of the same rows under base, single and merged model (Eq. 1-3).

Everything is paired: row k is one evaluation row scored three times, so noise that the three share cancels.

References
----------
MergeProbe, arXiv 2606.19549, Eq. 1-3. E. C. Fieller, "Some Problems in Interval Estimation", JRSS B 16 (1954).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from probe.records import MergeProbeError

CONFIDENCE = 0.90
"""Of the one-sided lower bound: the gate's level in the design."""
SIGNIFICANT_GAIN = 2.0
"""Standard errors that a gain must reach before retention, a ratio over it, means anything."""

Scores = NDArray[np.float64]


class RetentionError(MergeProbeError):
    """The scores cannot be compared row by row."""


@dataclass(frozen=True, slots=True)
class Gain:
    """What a single adapter adds to the base: mean paired difference, in units of the score.

    The standard error is infinite for a single row.
    """

    value: float
    standard_error: float
    num_rows: int

    @property
    def is_significant(self) -> bool:
        """Whether the gain is positive and at least 2 standard errors."""
        return self.value > 0 and self.value >= SIGNIFICANT_GAIN * self.standard_error


@dataclass(frozen=True, slots=True)
class Retention:
    """Share of an adapter's gain that survives in a merged module: 1 = all, above 1 = positive transfer.

    Attributes
    ----------
    value
        Ratio of mean differences, never clipped; NaN where the single adapter has no positive gain.
    standard_error
        Of `value`, by the delta method; NaN with it. For display: the gate uses the bound.
    lower_bound
        One-sided 90 % lower confidence bound; -inf where the rows cannot bound it, so that no gate passes.
    """

    value: float
    standard_error: float
    lower_bound: float
    num_rows: int


def standard_error(values: Sequence[float] | Scores) -> float:
    """Return the standard error of a mean; infinite for a single value, which says nothing of the spread."""
    array = np.asarray(values, dtype=np.float64)
    return float(array.std(ddof=1) / math.sqrt(array.size)) if array.size > 1 else math.inf


def paired_loss(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Return the mean of first - second over paired rows, and its standard error; positive = `second` is worse.

    Raises
    ------
    RetentionError
        The rows are not paired, empty or not finite.
    """
    a, b = _paired(first, second)
    return float((a - b).mean()), standard_error(a - b)


def gain(base: Sequence[float], single: Sequence[float]) -> Gain:
    """Return what a single adapter gains over the base, the numerator of Eq. 1.

    Raises
    ------
    RetentionError
        The rows are not paired, empty or not finite.
    """
    value, error = paired_loss(single, base)
    return Gain(value=value, standard_error=error, num_rows=len(base))


def retention(base: Sequence[float], single: Sequence[float], merged: Sequence[float]) -> Retention:
    """Return the retention of Eq. 2, (merged - base) / (single - base), and its one-sided 90 % lower bound.

    The bound is Fieller's: the set of all rho whose contrast (merged - base) - rho (single - base) is not
    significantly positive, by Student's t over rows, starts at it. Where single - base is itself not significantly
    positive that set is unbounded, and so is the bound.

    Scores are mostly 0 or 1, so rows without a single disagreement have no variance, and Fieller alone would be
    certain after five of them. The bound is therefore computed with one row added, **the lost row**, on which merging
    loses the largest gain that any row showed. That is the rule of three in another dress: for n rows all won by the
    adapter and all kept by the merge, it stays within 0.05 below and 0.001 above the exact binomial (Clopper-Pearson)
    bound 0.1^(1/n), and its weight fades as 1/n. `tests/probe/test_retention.py` checks both, and its coverage.

    Parameters
    ----------
    base, single, merged
        Scores of the same rows, in the same order.

    Raises
    ------
    RetentionError
        The rows are not paired, empty or not finite.
    """
    base_scores, single_scores, merged_scores = _paired(base, single, merged)
    kept, gained = merged_scores - base_scores, single_scores - base_scores
    num_rows, mean_gain = gained.size, float(gained.mean())
    if mean_gain <= 0:
        return Retention(value=math.nan, standard_error=math.nan, lower_bound=-math.inf, num_rows=num_rows)
    value = float(kept.mean()) / mean_gain
    error = standard_error(kept - value * gained) / mean_gain
    return Retention(value=value, standard_error=error, lower_bound=_lower_bound(kept, gained), num_rows=num_rows)


def retention_in_words(value: float, lower_bound: float) -> str:
    """Return a retention with its lower bound, such as "0.95 (at least 0.90)"."""
    return f"{value:.2f} (at least {lower_bound:.2f})" if math.isfinite(lower_bound) else f"{value:.2f} (no bound yet)"


def _lower_bound(kept: Scores, gained: Scores) -> float:
    if not _bounds_a_ratio(gained):
        return -math.inf
    lost_row = float(gained.max())
    kept, gained = np.append(kept, 0.0), np.append(gained, lost_row)
    return _fieller_lower_root(kept, gained) if _bounds_a_ratio(gained) else -math.inf


def _bounds_a_ratio(gained: Scores) -> bool:
    """Say whether the mean gain is significantly positive: only then is Fieller's set an interval."""
    return gained.size > 1 and float(gained.mean()) > _t_quantile(gained.size) * standard_error(gained)


def _fieller_lower_root(kept: Scores, gained: Scores) -> float:
    """Solve (mean(kept) - rho mean(gained))^2 = t^2 var(kept - rho gained) / n for its smaller root.

    As a rho^2 - 2 b rho + c = 0, with a > 0 because the gain is significant.
    """
    spread = _t_quantile(kept.size) ** 2 / kept.size
    covariance = np.cov(kept, gained)
    a = gained.mean() ** 2 - spread * covariance[1, 1]
    b = kept.mean() * gained.mean() - spread * covariance[0, 1]
    c = kept.mean() ** 2 - spread * covariance[0, 0]
    # The discriminant is never negative, except by rounding where both roots coincide.
    return float((b - math.sqrt(max(0.0, b * b - a * c))) / a)


def _t_quantile(num_rows: int) -> float:
    return float(student_t.ppf(CONFIDENCE, num_rows - 1))


def _paired(*columns: Sequence[float]) -> list[Scores]:
    arrays = [np.asarray(column, dtype=np.float64) for column in columns]
    lengths = [array.size for array in arrays]
    if len(set(lengths)) != 1 or lengths[0] == 0:
        raise RetentionError(f"Got {lengths} scores; expected the same rows, at least one, under every module.")
    if not all(np.isfinite(array).all() for array in arrays):
        raise RetentionError("A score is NaN or infinite; score the rows again.")
    return arrays
