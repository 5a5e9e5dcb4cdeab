"""Dynamics: how a signal changes over the early checkpoints, rather than what it is at one of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def slope(fractions: Sequence[float], values: Sequence[float]) -> float:
    """Return the least-squares slope of a signal per tenth of training; NaN under two checkpoints where it is defined.

    Parameters
    ----------
    fractions
        Share of training at each checkpoint, 0..1, different from one another.
    """
    points = [(10 * rho, value) for rho, value in zip(fractions, values, strict=True) if math.isfinite(value)]
    if len(points) < 2:
        return math.nan
    rho, value = np.asarray(points, dtype=np.float64).T
    return float(np.polyfit(rho, value, 1)[0])


def variance(values: Sequence[float]) -> float:
    """Return the variance of a signal over checkpoints (divisor n); NaN under two where it is defined."""
    known = [value for value in values if math.isfinite(value)]
    return float(np.var(known)) if len(known) > 1 else math.nan
