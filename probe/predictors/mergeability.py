"""What follows from retention and gain: compatibility M, safety, and the G-weighted scores of a merge.

Of two members these are the figures of `probe.bank.ceilings`; here they take any number, and forecasts as well as
measurements.

References
----------
MergeProbe, arXiv 2606.19549, Section 2.3, Eq. 1-3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from probe.bank.ceilings import MAX_DROP, SAFE_COMPATIBILITY


def compatibility(retention: Sequence[float], gains: Sequence[float]) -> float:
    """Return M: the geometric mean of max(0, G_i), times the mean Ret; of two members it is M_ij of Eq. 3."""
    weight = math.prod(max(0.0, gain) for gain in gains) ** (1 / len(gains))
    return weight * math.fsum(retention) / len(retention)


def is_safe(retention: Sequence[float], gains: Sequence[float]) -> bool:
    """Say whether a merge is safe: M >= 0.6, and no member drops by more than 0.15."""
    return min(retention) >= 1 - MAX_DROP and compatibility(retention, gains) >= SAFE_COMPATIBILITY


def weighted_scores(retention: Sequence[float], gains: Sequence[float]) -> tuple[float, float]:
    """Return the G-weighted set score mean_i G_i Ret_i, and the least G_i Ret_i (Section 2.3)."""
    scores = [gain * ret for gain, ret in zip(gains, retention, strict=True)]
    return math.fsum(scores) / len(scores), min(scores)
