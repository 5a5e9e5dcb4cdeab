"""Merge operators: a table of short pure functions on cores, and the one procedure that applies them.

How to add one:

1. Write `probe/operators/<name>.py` with a pure function ``rule(members, *, my_parameter) -> core``. It sees one module
   at a time: `Members` holds every update as a small core C_i in shared orthonormal bases (D_i = Q_B C_i Q_A^T), so
   the rule never meets a long axis, and whatever it returns is truncated, scaled and written for it. Hyper-parameters
   come by keyword and have no default in the signature. Random numbers come from `members.generator` only. No shortcut
   for a single member: it must come out unchanged by the mathematics.
2. Add a row to `OPERATORS`: key, rule, hyper-parameters (default with its reason, bounds, the neutral value), source,
   the properties that it promises, the data that it needs.
3. Add a dense oracle for it to `tests/probe/oracles.py`. The contract test in `tests/probe/test_operators.py` runs
   every row against its oracle and holds it to its properties.

Everything else (weights, pruning, output rank, norm rule, mixed ranks, missing modules, files) works from then on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from probe.factors import LoraUpdate
from probe.operators.linear import mean, task_arithmetic
from probe.operators.merging import Merged, merge_with
from probe.operators.operator import HyperParameter, Members, Need, Norm, Operator, Property, Space
from probe.operators.recipe import OUTPUT_RANKS, MergeError, Pruned, Recipe, Weight, output_rank
from probe.profiles import Calibration

__all__ = [
    "OPERATORS",
    "OUTPUT_RANKS",
    "HyperParameter",
    "Members",
    "MergeError",
    "Merged",
    "Need",
    "Norm",
    "Operator",
    "Property",
    "Pruned",
    "Recipe",
    "Space",
    "Weight",
    "merge",
    "output_rank",
]

OPERATORS: Mapping[str, Operator] = {
    row.key: row
    for row in (
        Operator(
            key="ta",
            rule=task_arithmetic,
            hyper_parameters=(),
            source="Task arithmetic, arXiv 2212.04089",
            properties=frozenset({Property.LINEAR, Property.SCALE_EQUIVARIANT, Property.ZERO_NEUTRAL}),
        ),
        Operator(
            key="mean",
            rule=mean,
            hyper_parameters=(),
            source="Model soups, arXiv 2203.05482",
            properties=frozenset({Property.LINEAR, Property.SCALE_EQUIVARIANT, Property.IDEMPOTENT}),
        ),
    )
}


def merge(updates: Sequence[LoraUpdate], recipe: Recipe, calibrations: Sequence[Calibration] | None = None) -> Merged:
    """Merge updates into one, by a recipe, without forming Delta-W.

    Exact before truncation; members may differ in rank and in modules (an absent module is a zero update).

    Parameters
    ----------
    calibrations
        One a member, for operators that need data.

    Raises
    ------
    MergeError
        Unknown operator, hyper-parameter or norm rule; no updates, bad weights, rank or pruned parts; modules whose
        shapes differ; factors or results that are not finite; data that the operator needs and did not get.
    """
    if recipe.operator not in OPERATORS:
        raise MergeError(f"Operator {recipe.operator!r} is unknown; expected one of {sorted(OPERATORS)}.")
    return merge_with(OPERATORS[recipe.operator], updates, recipe, calibrations)
