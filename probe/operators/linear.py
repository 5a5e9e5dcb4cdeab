"""Linear operators: exact in core space, because D_i = Q_B C_i Q_A^T is linear in C_i."""

from __future__ import annotations

import torch
from torch import Tensor


def task_arithmetic(cores: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum of the updates: sum_i w_i C_i.

    References
    ----------
    "Editing Models with Task Arithmetic" (arXiv 2212.04089), Section 2.
    """
    return torch.einsum("n,nij->ij", weights, cores)


def mean(cores: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of the updates: sum_i w_i C_i / sum_i w_i.

    References
    ----------
    "Model soups" (arXiv 2203.05482).
    """
    return task_arithmetic(cores, weights / weights.sum())
