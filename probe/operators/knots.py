"""KnOTS: align outputs only, and let the rule see every input coordinate."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from probe.operators.operator import Members
from probe.operators.ties import ties


def knots_ties(members: Members, *, density: float) -> Tensor:
    """Return U TIES(X_1, ..., X_n), where [D_1 | ... | D_n] = U S V^T and X_i = S V_i^T = U^T D_i.

    In input coordinates, so that trimming and votes are per input of the module, as in the paper.

    References
    ----------
    "Model merging with SVD to tie the KnOTS" (arXiv 2410.19735), KnOTS-TIES.
    """
    _, directions = torch.linalg.eigh(torch.einsum("nkm,nlm->kl", members.cores, members.cores))
    merged = ties(replace(members, cores=directions.T @ members.cores), density=density)
    return torch.matmul(directions, merged)
