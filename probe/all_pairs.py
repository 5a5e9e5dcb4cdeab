"""All pairs of a bank at once: the weights-only signals that two Grams a module give, in bounded memory.

For every module, U_i^T U_j and V_i^T V_j of all pairs are blocks of two big Gram matrices. They are made one tile of
adapters at a time, float32, and reduced to one number a pair before the next tile, so no n^2 r^2 array is ever held.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probe.profiles import AdapterProfile, ModuleProfile

TILE_COLUMNS = 2048
"""Summed rank of a tile's side: its two Grams take 2 x 16 MiB, enough to keep a matrix product at full speed."""

NUM_NEIGHBOURS = 8
"""Partners that an adapter is compared with by the costlier signals: principal angles, sign conflict, shift."""

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PairMatrices:
    """Signals of every pair of a bank, each (n, n) and symmetric; the row functions of `probe.signals`, for all pairs.

    Attributes
    ----------
    cosine
        `update_cosine`; NaN where an update is zero.
    norm_ratio
        `update_norm_ratio`; NaN where both updates are zero.
    overlap_in, overlap_out
        `overlap_in` and `overlap_out`, averaged over common modules by the product of the norms; NaN without one.
    """

    cosine: Matrix
    norm_ratio: Matrix
    overlap_in: Matrix
    overlap_out: Matrix

    @property
    def overlap_above_chance(self) -> Matrix:
        """Mean of the two overlaps, -1..1, 0 = as for random subspaces; higher = more collision."""
        return (self.overlap_in + self.overlap_out) / 2

    def neighbours(self, index: int, limit: int = NUM_NEIGHBOURS) -> list[int]:
        """Return the `limit` other adapters whose updates come closest by |cosine|: worth the costlier signals."""
        closeness = np.nan_to_num(np.abs(self.cosine[index]), nan=-1.0)
        order = [int(other) for other in np.argsort(-closeness, kind="stable") if other != index]
        return order[:limit]


@dataclass(frozen=True, slots=True, eq=False)
class _Stack:
    """One module of some adapters, side by side: columns padded with zeros to one rank r.

    U (d_out, n r), V (d_in, n r), s (n r,); ranks (n,), 0 where an adapter lacks the module; norms (n,).
    """

    U: Tensor
    V: Tensor
    s: Tensor
    ranks: Tensor
    norms: Tensor

    @property
    def rank(self) -> int:
        return self.s.shape[0] // self.ranks.shape[0]


def all_pairs(profiles: Sequence[AdapterProfile], tile_columns: int = TILE_COLUMNS) -> PairMatrices:
    """Compare every pair of a bank.

    Costs two matrix products (n r x d by d x n r, half of each by symmetry) a module, and memory for the bank's
    profiles, one module's stacks, two tiles of `tile_columns`^2, and a few n^2 matrices.
    """
    count = len(profiles)
    inner, overlap_in, overlap_out, weight = (torch.zeros(count, count, dtype=torch.float64) for _ in range(4))
    for name in sorted({name for profile in profiles for name in profile.modules}):
        stack = _stack([profile.modules.get(name) for profile in profiles])
        for rows, columns in _tiles(count, max(1, tile_columns // stack.rank)):
            weights = torch.outer(stack.norms[rows], stack.norms[columns])
            products, within, without = _compare(stack, rows, columns)
            for total, values in (
                (inner, products),
                (overlap_in, within * weights),
                (overlap_out, without * weights),
                (weight, weights),
            ):
                total[rows, columns] += values
    norms = np.asarray([profile.norm for profile in profiles])
    with np.errstate(divide="ignore", invalid="ignore"):
        return PairMatrices(
            cosine=_mirrored(inner) / np.outer(norms, norms),
            norm_ratio=np.minimum.outer(norms, norms) / np.maximum.outer(norms, norms),
            overlap_in=_mirrored(overlap_in) / _mirrored(weight),
            overlap_out=_mirrored(overlap_out) / _mirrored(weight),
        )


def _stack(modules: Sequence[ModuleProfile | None]) -> _Stack:
    present = [module for module in modules if module is not None]
    rank = max(module.rank for module in present)
    d_out, d_in = present[0].U.shape[0], present[0].V.shape[0]
    U, V = torch.zeros(d_out, len(modules), rank), torch.zeros(d_in, len(modules), rank)  # noqa: N806
    s, ranks = torch.zeros(len(modules), rank), torch.zeros(len(modules), dtype=torch.float64)
    for index, module in enumerate(modules):
        if module is not None:
            U[:, index, : module.rank], V[:, index, : module.rank] = module.U, module.V
            s[index, : module.rank], ranks[index] = module.s, module.rank
    return _Stack(U.flatten(1), V.flatten(1), s.flatten(), ranks, s.double().norm(dim=1))


def _tiles(count: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Yield the tiles on and above the diagonal."""
    starts = range(0, count, size)
    for row in starts:
        for column in range(row, count, size):
            yield slice(row, min(row + size, count)), slice(column, min(column + size, count))


def _compare(stack: _Stack, rows: slice, columns: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Return <D_i, D_j>, Omega_A and Omega_B above chance of one module for a tile of pairs, each (rows, columns)."""
    r = stack.rank
    left, right = slice(rows.start * r, rows.stop * r), slice(columns.start * r, columns.stop * r)
    written = stack.U[:, left].T @ stack.U[:, right]
    read = stack.V[:, left].T @ stack.V[:, right]
    agreement = (written * read).mul_(stack.s[left, None]).mul_(stack.s[right])
    smaller = torch.minimum(stack.ranks[rows, None], stack.ranks[columns]).clamp(min=1)
    larger = torch.maximum(stack.ranks[rows, None], stack.ranks[columns])
    overlap_in = _block_sums(read.square_(), r) / smaller - larger / stack.V.shape[0]
    overlap_out = _block_sums(written.square_(), r) / smaller - larger / stack.U.shape[0]
    return _block_sums(agreement, r), overlap_in, overlap_out


def _block_sums(matrix: Tensor, size: int) -> Tensor:
    """Sum (n r, m r) over its r x r blocks to (n, m), float64."""
    rows, columns = matrix.shape[0] // size, matrix.shape[1] // size
    partial = matrix.view(rows, size, columns * size).sum(dim=1)
    return partial.view(rows, columns, size).double().sum(dim=2)


def _mirrored(upper: Tensor) -> Matrix:
    return (torch.triu(upper) + torch.triu(upper, diagonal=1).T).numpy()
