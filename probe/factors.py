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

from probe.records import MergeProbeError


class FactorError(MergeProbeError):
    """Factors that are no update: not finite, of rank 0, or of a rank that their shape does not allow."""


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
        (d_in, k_A), orthonormal columns spanning the rows of every A_i; None is the identity, and k_A = d_in then.
    cores
        (n, k_B, k_A), C_i; zero where update i lacks the module.

    References
    ----------
    "Accurate and Efficient Low-Rank Model Merging in Core Space" (arXiv 2509.17786).
    """

    Q_B: Tensor
    Q_A: Tensor | None
    cores: Tensor

    @property
    def size(self) -> int:
        """The larger of d_out and d_in."""
        return max(self.Q_B.shape[0], self.cores.shape[2] if self.Q_A is None else self.Q_A.shape[0])


def tolerance(size: int) -> float:
    """Relative size under which a singular value of a matrix of `size` rows or columns counts as zero.

    One rule for all of MergeProbe. It follows float64, not the factors' float32: factors are exact inputs, so only
    the rounding of our own sums separates a true zero from a weak direction.
    """
    return size * sys.float_info.epsilon


def check_factor(factor: LoraFactor) -> None:
    """Refuse a factor that no finite update of its shape could have.

    Raises
    ------
    FactorError
    """
    B, A = factor.B, factor.A
    if B.dim() != 2 or A.dim() != 2 or B.shape[1] != A.shape[0]:
        raise FactorError(f"B is {tuple(B.shape)} and A is {tuple(A.shape)}; expected (d_out, r) and (r, d_in).")
    if not 1 <= factor.rank <= min(factor.shape):
        raise FactorError(f"rank {factor.rank} of a {factor.shape} update; expected 1 to {min(factor.shape)}.")
    if not (B.isfinite().all() and A.isfinite().all()):
        raise FactorError("the factors hold NaN or infinite values; training has diverged.")


def canonical(factor: LoraFactor) -> LoraFactor:
    """Return the same update in its own gauge: B = U sqrt(S), A = sqrt(S) V^T, signs fixed, float64.

    Singular values under `tolerance` are dropped, so an all-zero update has rank 0 here. Where singular values
    coincide the gauge is unique only up to a rotation among them.
    """
    left, left_core = torch.linalg.qr(factor.B.double())
    right, right_core = torch.linalg.qr(factor.A.double().T)
    u, s, v = _canonical_parts(left_core @ right_core.T, max(factor.shape))
    u, root, v = left @ u, s.sqrt(), right @ v
    signs = column_signs(u)
    return LoraFactor(B=u * signs * root, A=(v * signs * root).T)


def core_space(factors: Sequence[LoraFactor | None], also_in: Tensor | None = None) -> CoreSpace:
    """Express several updates of one module in shared bases; None is a zero update.

    The bases are singular vectors of the stacked *canonical* factors, so they depend neither on gauge nor on order.
    All that touches the long axes is one QR of each stack; the rest happens at the size of the summed ranks.

    Parameters
    ----------
    factors
        At least one of them is not None, and all have one (d_out, d_in).
    also_in
        (d_in, q), directions that Q_A shall span too, after those of the updates; for operators that read inputs.
    """
    left, left_cores = _shared_qr([None if f is None else f.B for f in factors])
    right, right_cores = _shared_qr([None if f is None else f.A.T for f in factors])
    size = max(left.shape[0], right.shape[0])
    canon = [_canonical_parts(b @ a.T, size) for b, a in zip(left_cores, right_cores, strict=True)]
    small_B = _basis(torch.cat([u * s.sqrt() for u, s, _ in canon], dim=1))
    small_A = _basis(torch.cat([v * s.sqrt() for _, s, v in canon], dim=1))
    cores = torch.stack([(small_B.T @ u * s) @ (v.T @ small_A) for u, s, v in canon])
    signs_B, signs_A = column_signs(Q_B := left @ small_B), column_signs(Q_A := right @ small_A)
    space = CoreSpace(Q_B * signs_B, Q_A * signs_A, cores * signs_B[:, None] * signs_A)
    return space if also_in is None else _widened(space, also_in.double())


def input_coordinates(space: CoreSpace) -> CoreSpace:
    """Return the same updates with their columns in the module's own inputs: Q_A the identity, cores (n, k_B, d_in)."""
    return space if space.Q_A is None else CoreSpace(space.Q_B, None, space.cores @ space.Q_A.T)


def truncate(space: CoreSpace, core: Tensor, rank: int) -> tuple[LoraFactor, float, float]:
    """Return the best rank-`rank` factor of Q_B `core` Q_A^T, and the kept and the total energy.

    Energy is the squared Frobenius norm. The factor is in the canonical gauge, float32, of rank >= 1 even where the
    update is zero, because no engine loads rank 0.

    Parameters
    ----------
    core
        (k_B, k_A).

    Raises
    ------
    FactorError
        The result does not fit into float32, or is no number at all.
    """
    if not core.isfinite().all():
        raise FactorError("the result holds NaN or infinite values; the members are too large to merge.")
    u, s, vh = torch.linalg.svd(core, full_matrices=False)
    num_kept = min(rank, _num_above_tolerance(s, space.size))
    root = s[:num_kept].sqrt()
    left, right = space.Q_B @ u[:, :num_kept], vh[:num_kept].T
    right = right if space.Q_A is None else space.Q_A @ right
    signs = column_signs(left)
    B, A = (left * signs * root).float(), (right * signs * root).T.float()
    if not (B.isfinite().all() and A.isfinite().all()):
        raise FactorError(f"the result is too large for float32: a singular value is {float(s[0]):.3g}.")
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


def _shared_qr(sides: Sequence[Tensor | None]) -> tuple[Tensor, list[Tensor]]:
    """Return Q (d, k) of all sides (d, r_i) stacked, and each side's coordinates (k, r_i); None has r = 0."""
    widths = [0 if side is None else side.shape[1] for side in sides]
    stack = torch.cat([side.double() for side in sides if side is not None], dim=1)
    q, r = torch.linalg.qr(stack)
    return q, list(torch.split(r, widths, dim=1))


def _canonical_parts(core: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return U, s, V of a small core, singular values under `tolerance` dropped."""
    u, s, vh = torch.linalg.svd(core, full_matrices=False)
    num_kept = _num_above_tolerance(s, size)
    return u[:, :num_kept], s[:num_kept], vh[:num_kept].T


def _widened(space: CoreSpace, directions: Tensor) -> CoreSpace:
    """Let Q_A span further directions (d_in, q), in which every update is zero."""
    assert space.Q_A is not None
    # Twice, because one projection leaves rounding as large as the directions that lie inside the span already.
    rest = directions
    for _ in range(2):
        rest = rest - space.Q_A @ (space.Q_A.T @ rest)
    scale = directions.norm(dim=0).amax() if directions.numel() else 0.0
    further = _basis(rest, floor=tolerance(space.size) * float(scale))
    wider = torch.cat([space.Q_A, further * column_signs(further)], dim=1)
    return CoreSpace(space.Q_B, wider, torch.nn.functional.pad(space.cores, (0, further.shape[1])))


def _basis(stack: Tensor, floor: float = 0.0) -> Tensor:
    u, s, _ = torch.linalg.svd(stack, full_matrices=False)
    spanning: Tensor = u[:, : min(_num_above_tolerance(s, max(stack.shape)), int((s > floor).sum()))]
    return spanning


def column_signs(u: Tensor) -> Tensor:
    """Return +-1 per column such that each column's entry of largest magnitude becomes positive."""
    if u.shape[1] == 0:
        return u.new_ones(0)
    largest = u.abs().argmax(dim=0, keepdim=True)
    ones = u.new_ones(u.shape[1])
    return torch.where(u.gather(0, largest)[0] < 0, -ones, ones)
