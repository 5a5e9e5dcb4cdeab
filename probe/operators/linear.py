"""Linear operators: exact in core space, because D_i = Q_B C_i Q_A^T is linear in C_i."""

from __future__ import annotations

from torch import Tensor

from probe.operators.operator import Members


def task_arithmetic(members: Members) -> Tensor:
    """Return the weighted sum of the updates: sum_i w_i C_i.

    References
    ----------
    "Editing Models with Task Arithmetic" (arXiv 2212.04089), Section 2.
    """
    return members.weighted.sum(dim=0)


def mean(members: Members) -> Tensor:
    """Return the weighted mean of the updates: sum_i w_i C_i / sum_i w_i.

    References
    ----------
    "Model soups" (arXiv 2203.05482).
    """
    return task_arithmetic(members) / members.weights.sum()
