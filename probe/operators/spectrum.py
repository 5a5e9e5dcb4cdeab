"""Operators on singular values: whiten members against each other, flatten the sum, undo over-counting."""

from __future__ import annotations

import torch
from torch import Tensor

from probe.operators.decomposition import decomposed, polar
from probe.operators.linear import task_arithmetic
from probe.operators.operator import Members

# Far over float64's rounding, far under what anyone could measure of a merge.
_TRACE = 1e-6


def tsv(members: Members) -> Tensor:
    """Decorrelate the members' singular vectors: U_o diag(w_i S_i) V_o^T, with U_o = polar([U_1 ... U_n]), V_o alike.

    All singular directions of each member take part (k = r_i); the paper's k = min(d)/n would add null directions of
    low-rank updates. Members of orthogonal supports come out as their sum.

    References
    ----------
    "Task Singular Vectors" (arXiv 2412.00081), TSV-Merge.
    """
    present = members.present
    parts = decomposed(present.cores, present.floor)
    left, right = (polar(columns, present.tolerance) for columns in parts.columns)
    strengths = (present.weights[:, None] * parts.s).flatten()
    return (left * strengths) @ right.T


def iso(members: Members, *, flatten: float) -> Tensor:
    """Move the singular values of sum_i w_i C_i towards their mean by the share `flatten`.

    The mean is over the sum's own rank, not over min(d_out, d_in): a LoRA's null directions stay null. A trace of the
    order is left even at 1, or truncation would keep whatever directions rounding puts first.

    References
    ----------
    "No Task Left Behind" (arXiv 2502.04959), Iso-C.
    """
    parts = decomposed(task_arithmetic(members), _rounding_of_sum(members))
    strengths = torch.lerp(parts.s, parts.s.mean().expand_as(parts.s), flatten * (1 - _TRACE))
    return (parts.U * strengths) @ parts.V.T


def svc(members: Members, *, alpha: float) -> Tensor:
    """Shrink directions of sum_i w_i C_i = U S V^T that several members write: S_k *= n / sum_i max(alpha, t_k^i).

    t_k^i = <a_k, a_k^i> / |a_k^i|^2 compares the sum's response a_k = u_k^T M with member i's own a_k^i, weighted;
    it is 0 for a member without one.

    References
    ----------
    "When Shared Knowledge Hurts" (arXiv 2602.05536), singular value calibration.
    """
    present = members.present
    parts = decomposed(task_arithmetic(present), _rounding_of_sum(present))
    responses = torch.einsum("kr,nkl->nrl", parts.U, present.weighted)
    projections = torch.einsum("nrl,r,lr->nr", responses, parts.s, parts.V)
    squares = responses.square().sum(dim=2)
    has_response = squares > (present.weights * present.floor)[:, None].square()
    counts = torch.where(has_response, projections / squares, 0.0).clamp(min=alpha)
    return (parts.U * (parts.s * len(counts) / counts.sum(dim=0))) @ parts.V.T


def _rounding_of_sum(members: Members) -> Tensor:
    return (members.weights * members.floor).sum()
