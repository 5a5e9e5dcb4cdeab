"""The score of a plan: retention kept, less what engine modules cost. All in ratios.

References
----------
MergeProbe, arXiv 2606.19549, Algorithm 1; over a whole bank: `mergeprobe.md`, "Policy".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

MAX_DROP = 0.15
"""delta: largest Drop = 1 - Ret of any member that a safe merge may have."""
TARGET_RETENTION = 1 - MAX_DROP
"""Ret*: what every member of a merge must keep."""
LAMBDA_COST = 0.5
"""What one engine module costs, in units of one adapter's full retention."""


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
