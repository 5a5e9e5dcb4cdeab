"""Temperature scaling: one number that turns the log-odds of held-out rows into probabilities.

References
----------
Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit

from probe.vectors import Vector

BOUNDS = (0.05, 20.0)
MIN_OF_A_CLASS = 10
"""Rows of either class; with fewer the log-odds are left as they are."""


def temperature(margin: Vector, is_safe: Vector) -> float:
    """Return the T within `BOUNDS` that minimises the log-loss of margin / T; 1 with too few rows of a class.

    Parameters
    ----------
    margin, is_safe
        (rows,), log-odds of rows that the model was not fitted on, and 0 or 1.
    """
    num_safe = int(is_safe.sum())
    if min(num_safe, is_safe.size - num_safe) < MIN_OF_A_CLASS:
        return 1.0
    signed = np.where(is_safe == 1, -margin, margin)
    # In log T, in which the loss is as flat on either side.
    found = minimize_scalar(
        lambda log_t: float(np.logaddexp(0.0, signed / np.exp(log_t)).mean()), bounds=np.log(BOUNDS), method="bounded"
    )
    return float(np.exp(found.x))


def probability(margin: float | Vector, scale: float) -> Vector:
    """Return the probability that log-odds stand for at a temperature."""
    return np.asarray(expit(margin / scale))
