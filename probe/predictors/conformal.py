"""One-sided split conformal bounds, Mondrian by action and operator: how far below its forecast Ret may lie.

References
----------
Lei, G'Sell, Rinaldo, Tibshirani and Wasserman, "Distribution-Free Predictive Inference for Regression", JASA 113
(2018). Vovk, Lindsay, Nouretdinov and Gammerman, "Mondrian Confidence Machine" (2003): a quantile of each group's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from probe.vectors import Vector

ALL = "all"
"""The group of everything."""


@dataclass(frozen=True, slots=True)
class Radius:
    """How far below its forecast a label may lie, in units of Ret; `num_labels` of the group say so."""

    value: float
    num_labels: int


def radius(errors: Vector, alpha: float) -> float:
    """Return the conformal radius of errors (forecast - measured), so that forecast - radius is a lower bound.

    It is the k-th smallest error, k = ceil((n + 1)(1 - alpha)): of n + 1 exchangeable errors the last is at most that
    with probability 1 - alpha or more. Too few errors, k > n, bound nothing: the radius is infinite.
    """
    # Less a rounding error, or 0.9 * 10 would need the tenth of nine.
    k = math.ceil((errors.size + 1) * (1 - alpha) - 1e-9)
    return float(np.sort(errors)[k - 1]) if k <= errors.size else math.inf


def groups_of(action: str, operator: str) -> tuple[str, str, str]:
    """Return the groups that a merge belongs to, the narrowest first."""
    return f"{action}/{operator}", action, ALL


def radii(errors: Vector, actions: Sequence[str], operators: Sequence[str], alpha: float) -> dict[str, Radius]:
    """Return group -> radius, of every group that has labels enough for one.

    Parameters
    ----------
    errors
        (rows,), forecast - measured.
    """
    members: dict[str, list[int]] = {}
    for row, group in _memberships(actions, operators):
        members.setdefault(group, []).append(row)
    found = {group: Radius(radius(errors[rows], alpha), len(rows)) for group, rows in members.items()}
    return {group: one for group, one in sorted(found.items()) if math.isfinite(one.value)}


def _memberships(actions: Sequence[str], operators: Sequence[str]) -> Iterator[tuple[int, str]]:
    for row, (action, operator) in enumerate(zip(actions, operators, strict=True)):
        for group in groups_of(action, operator):
            yield row, group


def narrowest(known: Mapping[str, Radius], action: str, operator: str) -> tuple[str, Radius]:
    """Return the narrowest group of a merge that has a radius; without any, everything, with an infinite radius."""
    group = next((group for group in groups_of(action, operator) if group in known), None)
    return (ALL, Radius(math.inf, 0)) if group is None else (group, known[group])
