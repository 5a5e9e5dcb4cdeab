"""How far two updates read from, and write to, the same directions."""

from __future__ import annotations

import math

from torch import Tensor

from probe.signals.summary import Summary


def overlap_in(first: Summary, second: Summary) -> float:
    """Return Omega_A, the overlap of what two updates read, less chance; see `_mean_overlap`."""
    return _mean_overlap(first, second, "V")


def overlap_out(first: Summary, second: Summary) -> float:
    """Return Omega_B, the overlap of what two updates write, less chance; see `_mean_overlap`."""
    return _mean_overlap(first, second, "U")


def _mean_overlap(first: Summary, second: Summary, side: str) -> float:
    """Average the modules' overlaps, weighted by the product of the two norms in each module.

    Modules that only one update changes cannot collide and do not enter; NaN without a common module.
    """
    shared = first.modules.keys() & second.modules.keys()
    pairs = [(first.modules[name], second.modules[name]) for name in sorted(shared)]
    total = math.fsum(one.norm * other.norm for one, other in pairs)
    if total == 0:
        return math.nan
    return math.fsum(
        one.norm * other.norm / total * _above_chance(getattr(one, side), getattr(other, side)) for one, other in pairs
    )


def _above_chance(first: Tensor, second: Tensor) -> float:
    """Return |Q_1^T Q_2|_F^2 / min(r_1, r_2) less its mean over random subspaces, max(r_1, r_2) / d.

    1 - max(r)/d where one subspace holds the other, 0 on average by chance, -max(r)/d where they are orthogonal. At
    equal ranks the chance level is the r/d of arXiv 2606.19549.

    Parameters
    ----------
    first, second
        (d, r_1) and (d, r_2), orthonormal columns.
    """
    size, ranks = first.shape[0], (first.shape[1], second.shape[1])
    overlap = float((first.T @ second).square().sum()) / min(ranks)
    return overlap - max(ranks) / size
