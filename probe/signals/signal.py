"""What a row of the signal table says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from probe.signals.summary import Summary


@dataclass(frozen=True, slots=True)
class Signal:
    """One symmetric number about a pair of updates.

    Attributes
    ----------
    function
        Two summaries -> the number; NaN where it is undefined.
    bounds
        Least and greatest possible value.
    direction
        What a high or low value means.
    source
        Where it comes from.
    """

    key: str
    function: Callable[[Summary, Summary], float]
    bounds: tuple[float, float]
    direction: str
    source: str
