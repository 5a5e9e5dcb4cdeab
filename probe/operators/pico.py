"""Pico: weaken output directions that many members write to, before any other rule."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from probe.operators.decomposition import decomposed
from probe.operators.linear import task_arithmetic
from probe.operators.operator import Members
from probe.operators.ties import ties


def pico(members: Members) -> Tensor:
    """Calibrate the output side, then sum: sum_i w_i U diag(a) U^T C_i.

    With B_st = [B_1 ... B_n] = U S V^T and e_j = S_j^2 / sum S^2 over n members, a_j = 1 / (1 + (n - 1) e_j). The
    B_i are those of the canonical gauge, so B_st B_st^T = sum_i (C_i C_i^T)^(1/2), and no factor is needed. The
    paper's final scale, |M| = mean_i |D_i|, is the norm rule `mean_source`.

    References
    ----------
    Pico (arXiv 2604.16826), B-side calibration.
    """
    return task_arithmetic(_calibrated(members))


def pico_ties(members: Members, *, density: float) -> Tensor:
    """Calibrate the output side as `pico` does, then merge as `ties` does."""
    return ties(_calibrated(members), density=density)


def _calibrated(members: Members) -> Members:
    parts = decomposed(members.cores, members.floor)
    roots = torch.einsum("nkr,nr,nlr->kl", parts.U, parts.s, parts.U)
    squares, directions = torch.linalg.eigh(roots)
    share = squares.clamp(min=0) / squares.sum()
    attenuation = 1 / (1 + (members.is_present.sum() - 1) * share)
    return replace(members, cores=(directions * attenuation) @ directions.T @ members.cores)
