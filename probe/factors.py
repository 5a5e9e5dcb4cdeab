"""Linear algebra of LoRA updates in factor space: no Delta-W is ever formed.

An update of one module is D = B A with B (d_out, r) and A (r, d_in). Every function here depends on D only, not on
the factors chosen for it: (B G, G^-1 A) is the same adapter for any invertible G. Sums run in float64.
"""

# ruff: noqa: N806 - B, A and the like are what every LoRA paper calls these matrices

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class LoraFactor:
    """One module's update D = B A, float32. Two factors are compared by their updates, never with `==`.

    Attributes
    ----------
    B
        (d_out, r), with the scale (alpha/r or alpha/sqrt(r)) absorbed.
    A
        (r, d_in).
    """

    B: Tensor
    A: Tensor

    @property
    def rank(self) -> int:
        """Number of columns of B; the update's numerical rank may be lower."""
        return self.B.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in) of the update."""
        return self.B.shape[0], self.A.shape[1]


@dataclass(frozen=True, slots=True, eq=False)
class LoraUpdate:
    """The Delta-W that an adapter adds: one factor per base module name; absent modules are zero."""

    factors: Mapping[str, LoraFactor]

    @property
    def rank(self) -> int:
        """Largest rank over the modules: what an engine must provide."""
        return max(factor.rank for factor in self.factors.values())

    @property
    def num_bytes(self) -> int:
        """Bytes of all factors as held here, in float32."""
        return sum(factor.B.nbytes + factor.A.nbytes for factor in self.factors.values())


@dataclass(frozen=True, slots=True, eq=False)
class CoreSpace:
    """Several updates of one module in shared orthonormal bases: D_i = Q_B C_i Q_A^T exactly.

    Attributes
    ----------
    Q_B
        (d_out, k_B), orthonormal columns spanning every B_i.
    Q_A
        (d_in, k_A), orthonormal columns spanning the rows of every A_i.
    cores
        (n, k_B, k_A), C_i; zero where update i lacks the module.

    References
    ----------
    "Accurate and Efficient Low-Rank Model Merging in Core Space" (arXiv 2509.17786).
    """

    Q_B: Tensor
    Q_A: Tensor
    cores: Tensor


def tolerance(size: int) -> float:
    """Relative size under which a singular value of a matrix of `size` rows or columns counts as zero.

    One rule for all of MergeProbe. It follows float64, not the factors' float32: factors are exact inputs, so only
    the rounding of our own sums separates a true zero from a weak direction.
    """
    return size * sys.float_info.epsilon


def canonical(factor: LoraFactor) -> LoraFactor:
    """Return the same update in its own gauge: B = U sqrt(S), A = sqrt(S) V^T, signs fixed, float64.

    Singular values under `tolerance` are dropped, so an all-zero update has rank 0 here. Where singular values
    coincide the gauge is unique only up to a rotation among them.
    """
    left, left_core = torch.linalg.qr(factor.B.double())
    right, right_core = torch.linalg.qr(factor.A.double().T)
    u, s, vh = torch.linalg.svd(left_core @ right_core.T, full_matrices=False)
    num_kept = _num_above_tolerance(s, max(factor.shape))
    u, root, v = left @ u[:, :num_kept], s[:num_kept].sqrt(), right @ vh[:num_kept].T
    signs = _column_signs(u)
    return LoraFactor(B=u * signs * root, A=(v * signs * root).T)


def core_space(factors: Sequence[LoraFactor | None]) -> CoreSpace:
    """Express several updates of one module in shared bases; None is a zero update.

    The bases come from SVDs of the stacked *canonical* factors, so they depend neither on gauge nor on order.

    Parameters
    ----------
    factors
        At least one of them is not None, and all have one (d_out, d_in).
    """
    parts = [None if factor is None else canonical(factor) for factor in factors]
    present = [part for part in parts if part is not None]
    Q_B = _basis(torch.cat([part.B for part in present], dim=1))
    Q_A = _basis(torch.cat([part.A.T for part in present], dim=1))
    cores = torch.zeros(len(parts), Q_B.shape[1], Q_A.shape[1], dtype=torch.float64)
    for index, part in enumerate(parts):
        if part is not None:
            cores[index] = (Q_B.T @ part.B) @ (part.A @ Q_A)
    return CoreSpace(Q_B=Q_B, Q_A=Q_A, cores=cores)


def truncate(space: CoreSpace, core: Tensor, rank: int) -> tuple[LoraFactor, float, float]:
    """Return the best rank-`rank` factor of Q_B `core` Q_A^T, and the kept and the total energy.

    Energy is the squared Frobenius norm. The factor is in the canonical gauge, float32, of rank >= 1 even where the
    update is zero, because no engine loads rank 0.

    Parameters
    ----------
    core
        (k_B, k_A).
    """
    u, s, vh = torch.linalg.svd(core, full_matrices=False)
    num_kept = min(rank, _num_above_tolerance(s, max(space.Q_B.shape[0], space.Q_A.shape[0])))
    root = s[:num_kept].sqrt()
    left, right = space.Q_B @ u[:, :num_kept], space.Q_A @ vh[:num_kept].T
    signs = _column_signs(left)
    B, A = (left * signs * root).float(), (right * signs * root).T.float()
    if num_kept == 0:
        B, A = B.new_zeros(B.shape[0], 1), A.new_zeros(1, A.shape[1])
    return LoraFactor(B=B, A=A), float(s[:num_kept].square().sum()), float(s.square().sum())


def factor_inner_product(first: LoraFactor, second: LoraFactor) -> float:
    """Return <D_1, D_2> = sum((B_1^T B_2) * (A_1 A_2^T)), in O(d r^2)."""
    left = first.B.double().T @ second.B.double()
    right = first.A.double() @ second.A.double().T
    return float((left * right).sum())


def inner_product(first: LoraUpdate, second: LoraUpdate) -> float:
    """Return the Frobenius inner product of two updates, summed over the modules that both have."""
    shared = first.factors.keys() & second.factors.keys()
    return math.fsum(factor_inner_product(first.factors[name], second.factors[name]) for name in shared)


def norm(update: LoraUpdate) -> float:
    """Return the Frobenius norm of a whole update, over all its modules."""
    return math.sqrt(max(0.0, inner_product(update, update)))


def scaled(update: LoraUpdate, scale: float) -> LoraUpdate:
    """Return `scale` times an update; the scale goes into B."""
    return LoraUpdate({name: LoraFactor(B=f.B * scale, A=f.A) for name, f in update.factors.items()})


def _num_above_tolerance(singular_values: Tensor, size: int) -> int:
    # Strictly above: an all-zero matrix has a largest singular value of 0, and nothing of it counts.
    if singular_values.numel() == 0:
        return 0
    return int((singular_values > tolerance(size) * singular_values[0]).sum())


def _basis(stack: Tensor) -> Tensor:
    u, s, _ = torch.linalg.svd(stack, full_matrices=False)
    spanning: Tensor = u[:, : _num_above_tolerance(s, max(stack.shape))]
    return spanning * _column_signs(spanning)


def _column_signs(u: Tensor) -> Tensor:
    """Return +-1 per column such that each column's entry of largest magnitude becomes positive."""
    if u.shape[1] == 0:
        return u.new_ones(0)
    largest = u.abs().argmax(dim=0, keepdim=True)
    ones = u.new_ones(u.shape[1])
    return torch.where(u.gather(0, largest)[0] < 0, -ones, ones)
