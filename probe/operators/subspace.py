"""CtM: choose one subspace of the output rank for all members first, merge inside it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from probe.operators.linear import task_arithmetic
from probe.operators.operator import Members
from probe.operators.ties import ties

# On random members, alike or not, five reach 98 % of what thirty do; each costs milliseconds a module.
_NUM_ALTERNATIONS = 5


def ctm(members: Members, *, beta: float) -> Tensor:
    """Compress, then merge: U (sum_i w_i O_i) V^T, O_i = U^T C_i V.

    U and V, of `members.rank` columns, maximise sum_i |U^T T_i V|^2 over targets T_i = t_i C_i / |C_i|, with
    t_i = beta |C_i| + (1 - beta) mean_j |C_j| (weighted cores): higher-order SVD to start, then HOOI alternation.

    References
    ----------
    "Compress then Merge" (arXiv 2606.03723), shared subspace by Tucker-2 decomposition.
    """
    left, right = _shared_subspace(members, beta)
    return left @ task_arithmetic(_inside(members, left, right)) @ right.T


def ctm_ties(members: Members, *, beta: float, density: float) -> Tensor:
    """Compress as `ctm` does, then merge as `ties` does, in the subspace's principal axes."""
    left, right = _shared_subspace(members, beta)
    return left @ ties(_inside(members, left, right), density=density) @ right.T


def _shared_subspace(members: Members, beta: float) -> tuple[Tensor, Tensor]:
    """Return U (k_B, r) and V (k_A, r), orthonormal, strongest axis first."""
    weighted = members.present.weighted
    lengths = weighted.flatten(1).norm(dim=1)
    targets = weighted * ((beta * lengths + (1 - beta) * lengths.mean()) / lengths)[:, None, None]
    left, right = _leading(targets, members.rank), _leading(targets.mT, members.rank)
    for _ in range(_NUM_ALTERNATIONS):
        left = _leading(targets @ right, members.rank)
        right = _leading(targets.mT @ left, members.rank)
    return left, right


def _leading(matrices: Tensor, size: int) -> Tensor:
    """Return (k, min(size, k)), the strongest directions of the rows of matrices (n, k, m) taken together."""
    _, directions = torch.linalg.eigh(torch.einsum("nkm,nlm->kl", matrices, matrices))
    strongest: Tensor = directions.flip(1)[:, :size]
    return strongest


def _inside(members: Members, left: Tensor, right: Tensor) -> Members:
    cores = left.T @ members.cores @ right
    # Of a member that lies outside the subspace only rounding is left, which would vote.
    return replace(members, cores=cores * (cores.abs() > members.floor[:, None, None]))
