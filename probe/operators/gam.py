"""GAM, in two readings: rotate members onto a reference before adding them, so that the rank stays theirs.

The paper's code is not released and its equations were not at hand: both are our reading of "align subspaces by
Procrustes, sum with weights, rank unchanged" (arXiv 2606.00357). Weights are normalised to sum to 1 over the members
that have the module, so equal members merge into themselves. The reference is the longest member, which keeps the
result independent of order; the result's rank is at most the reference's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from probe.operators.decomposition import decomposed, polar
from probe.operators.operator import Members
from probe.operators.ordering import by_content


def gam(members: Members) -> Tensor:
    """Align balanced factors: (sum_i v_i B_i G_i)(sum_i v_i G_i^T A_i), G_i = polar(B_i^T B_ref + A_i A_ref^T)."""
    present = members.present
    parts = decomposed(present.cores, present.floor)
    roots = parts.s.sqrt()[:, None, :]
    B, At = parts.U * roots, parts.V * roots  # noqa: N806
    reference = _reference(present)
    lengths = B.flatten(1).norm(dim=1)
    rounding = 2 * present.tolerance * lengths * lengths[reference]
    rotations = polar(B.mT @ B[reference] + At.mT @ At[reference], rounding)
    shares = (present.weights / present.weights.sum())[:, None, None]
    return (shares * B @ rotations).sum(dim=0) @ (shares * At @ rotations).sum(dim=0).T


def gam_transport(members: Members) -> Tensor:
    """Move every member into the reference's subspaces: U_ref (sum_i v_i R_i^T S_i T_i) V_ref^T.

    R_i = polar(U_i^T U_ref) and T_i = polar(V_i^T V_ref); what has no image in the reference's subspaces is lost.
    """
    present = members.present
    parts = decomposed(present.cores, present.floor)
    reference = _reference(present)
    left = polar(parts.U.mT @ parts.U[reference], present.tolerance)
    right = polar(parts.V.mT @ parts.V[reference], present.tolerance)
    shares = present.weights / present.weights.sum()
    middle = torch.einsum("n,nrk,nr,nrl->kl", shares, left, parts.s, right)
    return parts.U[reference] @ middle @ parts.V[reference].T


def _reference(members: Members) -> int:
    return int(by_content(members.cores.flatten(1), members.weights)[0])
