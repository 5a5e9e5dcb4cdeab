"""How two updates point: cosine and ratio of lengths."""

from __future__ import annotations

import math

from probe.signals.summary import ModuleSummary, Summary


def cosine(first: Summary, second: Summary) -> float:
    """Return the Frobenius cosine of two whole updates, -1..1; NaN if one is zero.

    The sum of the modules' inner products over the product of the whole norms, so a module counts by its energy and
    one that a single update has counts as orthogonal.
    """
    shared = first.modules.keys() & second.modules.keys()
    inner = math.fsum(_inner_product(first.modules[name], second.modules[name]) for name in shared)
    return _divide(inner, first.norm * second.norm)


def module_cosines(first: Summary, second: Summary) -> dict[str, float]:
    """Return the cosine, -1..1, of every module that both updates change."""
    return {
        name: _divide(_inner_product(one, second.modules[name]), one.norm * second.modules[name].norm)
        for name, one in first.modules.items()
        if name in second.modules
    }


def norm_ratio(first: Summary, second: Summary) -> float:
    """Return the shorter update's norm over the longer one's, 0..1; NaN if both are zero."""
    short, long = sorted((first.norm, second.norm))
    return _divide(short, long)


def _inner_product(first: ModuleSummary, second: ModuleSummary) -> float:
    """Return <D_1, D_2> = s_1^T ((U_1^T U_2) * (V_1^T V_2)) s_2, in O(d r^2)."""
    agreement = (first.U.T @ second.U) * (first.V.T @ second.V)
    return float(first.s @ agreement @ second.s)


def _divide(value: float, by: float) -> float:
    return value / by if by > 0 else math.nan
