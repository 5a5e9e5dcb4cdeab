"""Small decompositions that the rules share: rounding is set to zero first, so that no result hangs on it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Decomposition:
    """Cores as U diag(s) V^T; columns of singular values that are only rounding are zero.

    Attributes
    ----------
    U
        (..., k_B, r), orthonormal columns, r the largest rank of any of the cores.
    s
        (..., r), descending.
    V
        (..., k_A, r).
    """

    U: Tensor
    s: Tensor
    V: Tensor

    @property
    def is_real(self) -> Tensor:
        """(..., r), whether a column stands for a direction of the core rather than for padding."""
        return self.s > 0

    @property
    def columns(self) -> tuple[Tensor, Tensor]:
        """U and V of several cores side by side, (k_B, n r) and (k_A, n r)."""
        return torch.cat(tuple(self.U), dim=1), torch.cat(tuple(self.V), dim=1)


def decomposed(cores: Tensor, floor: Tensor) -> Decomposition:
    """Decompose cores (..., k_B, k_A); singular values up to `floor` (...) count as zero."""
    u, s, vh = torch.linalg.svd(cores, full_matrices=False)
    is_real = s > floor[..., None]
    rank = int(is_real.sum(dim=-1).amax())
    kept = is_real[..., :rank]
    return Decomposition(
        U=u[..., :rank] * kept[..., None, :], s=s[..., :rank] * kept, V=vh.mT[..., :rank] * kept[..., None, :]
    )


def polar(matrix: Tensor, floor: Tensor | float) -> Tensor:
    """Return the orthogonal polar factor of matrices (..., k, l), a partial isometry where they lack rank.

    Directions whose singular value is at most `floor` (...) are left out: rounding would choose their image.
    """
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    is_real = s > torch.as_tensor(floor)[..., None]
    return torch.matmul(u * is_real[..., None, :], vh)
