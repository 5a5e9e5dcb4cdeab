"""The score of a plan: retention kept, less what engine modules cost. All in ratios.

References
----------
MergeProbe, arXiv 2606.19549, Algorithm 1; over a whole bank: `mergeprobe.md`, "Policy".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from statistics import NormalDist

from probe.retention import CONFIDENCE

MAX_DROP = 0.15
"""delta: largest Drop = 1 - Ret of any member that a safe merge may have."""
TARGET_RETENTION = 1 - MAX_DROP
"""Ret*: what every member of a merge must keep."""
LAMBDA_COST = 0.5
"""What one engine module costs, in units of one adapter's full retention."""
MIN_IMPROVEMENT = 0.05
"""Score by which a plan must beat another to be worth a change, and a measurement what is there already."""

ONE_SIDED = NormalDist().inv_cdf(CONFIDENCE)
"""Standard deviations between a forecast and its one-sided bound, were its errors normal."""
MIN_ERROR = 0.01
"""No forecast is trusted closer than this."""


def plan_score(kept: Iterable[tuple[float, float]], num_active: int, lambda_cost: float) -> float:
    """Return sum_i w_i min(1, Ret_i) - lambda_cost x active.

    Parameters
    ----------
    kept
        (w_i, Ret_i) of every adapter; a separate one has Ret 1.
    num_active
        Distinct engine modules that the plan needs.
    """
    return sum(weight * min(1.0, retention) for weight, retention in kept) - lambda_cost * num_active


def group_gain(retention: Mapping[str, float], weights: Mapping[str, float], lambda_cost: float) -> float:
    """Return what merging a group adds to a plan's score: a module's cost for each one saved, less what is lost.

    Parameters
    ----------
    retention
        Member -> Ret inside the merged module.
    weights
        Member -> w.
    """
    lost = 0.0
    for member, kept in retention.items():  # a plain loop: a large bank's plan comes here 100,000 times
        if kept < 1.0:
            lost += weights[member] * (1.0 - kept)
    return lambda_cost * (len(retention) - 1) - lost


def expected_gain(
    retention: Mapping[str, float], weights: Mapping[str, float], lambda_cost: float, target: float, chance: float
) -> float:
    """Return what measuring a merge may be expected to add to a plan's score; nothing is lost where it fails.

    A point forecast is a median, and lies below `target` for nearly every merge of which it is not known whether it
    passes; but what passes keeps `target` at least.

    Parameters
    ----------
    chance
        Probability (0..1) that every member is measured to keep `target`.
    """
    if_it_passes = {member: max(kept, target) for member, kept in retention.items()}
    return chance * group_gain(if_it_passes, weights, lambda_cost)


def passing_chance(
    retention: Mapping[str, float], lower_bounds: Mapping[str, float], safe_probability: float, target: float
) -> float:
    """Return the probability (0..1) that every member is measured to keep `target`, at most.

    No merge is likelier to pass than it is to be safe, nor than any of its members is to keep enough, of which a
    forecast's own bound tells how far it errs. Where there is no bound, the forecast itself has to pass.

    Parameters
    ----------
    lower_bounds
        Member -> one-sided bound at the confidence `probe.retention.CONFIDENCE`; -inf is none.
    """
    chance = safe_probability
    for member, kept in retention.items():
        error = max((kept - lower_bounds[member]) / ONE_SIDED, MIN_ERROR)
        if math.isfinite(error):
            chance = min(chance, 0.5 * math.erfc((target - kept) / error / math.sqrt(2)))
        elif kept < target:
            return 0.0
    return chance
