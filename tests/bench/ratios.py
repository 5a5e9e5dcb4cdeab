"""Ratios of two servers over paired blocks, with a bootstrap interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap

CONFIDENCE = 0.90
NUM_RESAMPLES = 9999


@dataclass(frozen=True, slots=True)
class Ratio:
    """Median of the blocks' ratios, and its bootstrap interval at `CONFIDENCE`."""

    median: float
    low: float
    high: float
    num_pairs: int


def paired_ratio(numerators: Sequence[float], denominators: Sequence[float], seed: int) -> Ratio:
    """Return the median of `numerators[i] / denominators[i]`, with a percentile bootstrap over the pairs.

    The two values of a pair were measured one right after the other, so what slows the machine for a while cancels.

    Raises
    ------
    ValueError
        If the lengths differ, there are fewer than two pairs (one has no interval), or a value is not positive.
    """
    if len(numerators) != len(denominators) or len(numerators) < 2:
        raise ValueError(f"expected at least two pairs, seen {len(numerators)} and {len(denominators)} values")
    if min(*numerators, *denominators) <= 0:
        raise ValueError(f"expected positive values, seen {list(numerators)} and {list(denominators)}")
    ratios = np.asarray(numerators, float) / np.asarray(denominators, float)
    drawn = bootstrap(
        (ratios,), np.median, n_resamples=NUM_RESAMPLES, confidence_level=CONFIDENCE, method="percentile", rng=seed
    )
    low, high = drawn.confidence_interval
    return Ratio(float(np.median(ratios)), float(low), float(high), len(ratios))
