"""Merge operators: a table of short pure functions on cores, and the one procedure that applies them.

How to add one: write `probe/operators/<name>.py` with a function (cores (n, k_B, k_A), weights (n,)) -> (k_B, k_A),
add a row to `OPERATORS`, and let the contract test in `tests/probe/test_operators.py`, which runs every row, pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from probe.factors import LoraUpdate
from probe.operators.linear import mean, task_arithmetic
from probe.operators.merging import Merged, MergeError, Norm, merge_with
from probe.operators.operator import HyperParameter, Operator, Property

__all__ = ["OPERATORS", "HyperParameter", "MergeError", "Merged", "Norm", "Operator", "Property", "merge"]

_WEIGHTS = HyperParameter("weights", 1.0, "one a member; equal, since without data nothing favours a member")

OPERATORS: Mapping[str, Operator] = {
    row.key: row
    for row in (
        Operator(
            key="ta",
            rule=task_arithmetic,
            hyper_parameters=(_WEIGHTS,),
            source="Task arithmetic, arXiv 2212.04089",
            properties=frozenset({Property.LINEAR, Property.SCALE_EQUIVARIANT, Property.ZERO_NEUTRAL}),
        ),
        Operator(
            key="mean",
            rule=mean,
            hyper_parameters=(_WEIGHTS,),
            source="Model soups, arXiv 2203.05482",
            properties=frozenset({Property.LINEAR, Property.SCALE_EQUIVARIANT, Property.IDEMPOTENT}),
        ),
    )
}


def merge(
    updates: Sequence[LoraUpdate],
    operator: str,
    weights: Sequence[float] | None = None,
    norm: Norm = "mean_source",
    *,
    rank: int,
) -> Merged:
    """Merge updates into one of rank at most `rank`, without forming Delta-W.

    Exact before truncation; members may differ in rank and in modules (an absent module is a zero update).

    Parameters
    ----------
    operator
        A key of `OPERATORS`.
    weights
        One positive number per update; equal by default.
    norm
        Length of the merged update before truncation, so that truncation never amplifies what it keeps.
        "mean_source" by default: on language models, norm control is what is hard to beat (arXiv 2511.21437).
    rank
        Largest rank of any module of the result.

    Raises
    ------
    MergeError
        Unknown operator or norm rule, no updates, bad weights or rank, or modules whose shapes differ.
    """
    if operator not in OPERATORS:
        raise MergeError(f"Operator {operator!r} is unknown; expected one of {sorted(OPERATORS)}.")
    return merge_with(OPERATORS[operator], updates, weights, norm, rank)
