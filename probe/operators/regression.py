"""Closed forms that keep what each member does to its own inputs, measured (RegMean, OSRM) or guessed (WUDI)."""

from __future__ import annotations

import torch
from torch import Tensor

from probe.operators.operator import Members


def regmean(members: Members, *, shrink: float) -> Tensor:
    """Return (sum_i w_i C_i S_i)(sum_j S_j)^-1: the least squares fit to w_i D_i x on every member's inputs x.

    S_i = E[x x^T] is moved by `shrink` towards p_i I of the same trace. The paper shrinks towards the diagonal in
    input coordinates, which a core does not have; towards the isotropic moment the result depends on no basis.

    References
    ----------
    "Dataless Knowledge Fusion by Merging Weights of Language Models" (arXiv 2212.09849), closed form of a linear layer.
    """
    present = members.present
    moments = _shrunk(present, shrink)
    return _divided((present.weighted @ moments).sum(dim=0), moments.sum(dim=0), present.tolerance)


def osrm_post(members: Members, *, mu: float) -> Tensor:
    """Make each member quiet on the others' inputs, then sum: A_i' = A_i S_i (S_i + mu sum_{j != i} S_j)^-1.

    A stand-in after training for an initialisation before it, hence the name of its own; mu = 1 is RegMean without
    shrinking. Computed as A_i - mu A_i O_i (S_i + mu O_i)^-1, which is the same and leaves A_i alone where no other
    member has inputs.

    References
    ----------
    OSRM, "Unraveling LoRA Interference" (arXiv 2505.22934), whose constraint this relaxes.
    """
    present = members.present
    assert present.input_moments is not None
    others = present.input_moments.sum(dim=0) - present.input_moments
    leaking = mu * present.weighted @ others
    removed = _divided(leaking, present.input_moments + mu * others, present.tolerance)
    return (present.weighted - removed).sum(dim=0)


def wudi_ridge(members: Members, *, ridge: float) -> Tensor:
    """Return the stationary point of WUDI's loss sum_i c_i |(M - w_i C_i) C_i^T|^2, c_i = 1 / |C_i|^2, with a ridge.

    M = (sum_i c_i w_i C_i C_i^T C_i)(sum_i c_i C_i^T C_i + ridge tr/k I)^-1 over k input directions: RegMean with the
    members' own row spaces for inputs. Without the ridge members of nearly equal row spaces blow the result up.
    Solved by the singular values of X = [sqrt(c_i) C_i^T], because squaring them would lose half the digits.

    References
    ----------
    "Whoever Started the Interference Should End It" (arXiv 2503.08099), WUDI; the closed form is ours.
    """
    present = members.present
    units = present.cores / present.lengths[:, None, None]
    inputs = torch.cat(tuple(units.mT), dim=1)
    targets = torch.cat(tuple(present.weighted @ units.mT), dim=1)
    u, s, vh = torch.linalg.svd(inputs, full_matrices=False)
    penalty = ridge * s.square().sum() / len(inputs)
    inverse = torch.where(s > present.tolerance * s[0], s / (s.square() + penalty), 0.0)
    return torch.matmul(targets @ (vh.T * inverse), u.T)


def _shrunk(members: Members, shrink: float) -> Tensor:
    assert members.input_moments is not None
    assert members.input_power is not None
    isotropic = members.input_power[:, None, None] * torch.eye(members.cores.shape[2], dtype=torch.float64)
    return torch.lerp(members.input_moments, isotropic, shrink)


def _divided(numerator: Tensor, moment: Tensor, tolerance: float) -> Tensor:
    """Return `numerator` times the inverse of a symmetric second moment; where no input goes, zero."""
    return torch.matmul(numerator, torch.linalg.pinv(moment, rtol=tolerance, hermitian=True))
