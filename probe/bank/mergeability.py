"""What follows from retention and gain: compatibility M, safety, and the G-weighted score of a merge.

Forecasts are taken as well as measurements. Where a gain is unknown (NaN) nothing that needs it is known.

References
----------
MergeProbe, arXiv 2606.19549, Section 2.3, Eq. 1-3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from probe.bank.ceilings import SAFE_COMPATIBILITY
from probe.plan_score import MAX_DROP


def compatibility(retention: Sequence[float], gains: Sequence[float]) -> float:
    """Return M: the geometric mean of max(0, G_i), times the mean Ret; of two members it is M_ij of Eq. 3."""
    if any(map(math.isnan, gains)):
        return math.nan
    weight = math.prod(max(0.0, gain) for gain in gains) ** (1 / len(gains))
    return weight * math.fsum(retention) / len(retention)


def safe_sides(
    retention: Sequence[float],
    gains: Sequence[float],
    min_compatibility: float = SAFE_COMPATIBILITY,
    max_drop: float = MAX_DROP,
) -> tuple[bool, ...] | None:
    """Say of each member whether it drops by no more than delta in a merge with M >= gamma; None where M is unknown."""
    found = compatibility(retention, gains)
    if math.isnan(found):
        return None
    return tuple(ret >= 1 - max_drop and found >= min_compatibility for ret in retention)


def is_safe(
    retention: Sequence[float],
    gains: Sequence[float],
    min_compatibility: float = SAFE_COMPATIBILITY,
    max_drop: float = MAX_DROP,
) -> bool | None:
    """Say whether a merge is safe: M >= gamma, and no member drops by more than delta; None where M is unknown."""
    sides = safe_sides(retention, gains, min_compatibility, max_drop)
    return None if sides is None else all(sides)


def set_score(retention: Sequence[float], gains: Sequence[float]) -> float:
    """Return the score of a set, mean_i G_i Ret_i: what is kept counts by what the adapter gained (Section 2.3)."""
    return math.fsum(gain * ret for gain, ret in zip(gains, retention, strict=True)) / len(retention)
