"""What the signals need to know of one update, worked out once per adapter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from probe.factors import LoraUpdate, canonical


@dataclass(frozen=True, slots=True, eq=False)
class ModuleSummary:
    """Singular value decomposition of one module's update, D = U diag(s) V^T, float64.

    Attributes
    ----------
    U
        (d_out, r), orthonormal columns: what the update writes.
    s
        (r,), positive, descending.
    V
        (d_in, r), orthonormal columns: what the update reads.
    """

    U: Tensor
    s: Tensor
    V: Tensor

    @property
    def norm(self) -> float:
        """Frobenius norm of this module's update."""
        return float(self.s.norm())


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """One update's modules that are not zero."""

    modules: Mapping[str, ModuleSummary]

    @property
    def norm(self) -> float:
        """Frobenius norm of the whole update."""
        return math.hypot(*(module.norm for module in self.modules.values()))


def summarise(update: LoraUpdate) -> Summary:
    """Summarise an update; modules whose update is zero are left out."""
    modules = {}
    for name, factor in update.factors.items():
        own = canonical(factor)
        if own.rank > 0:
            # In the canonical gauge the columns of B are U sqrt(s) and those of A^T are V sqrt(s).
            root = own.B.norm(dim=0)
            modules[name] = ModuleSummary(U=own.B / root, s=root.square(), V=own.A.T / root)
    return Summary(modules)
