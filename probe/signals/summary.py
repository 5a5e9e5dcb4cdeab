"""Summaries: from one value a module or block to a fixed number of statistics, whatever the model's depth."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from probe.layers import BANDS, GROUPS, band_of, place_of
from probe.signals.signal import Resolution, Values

STATISTICS: Mapping[str, Callable[[NDArray[np.float64]], float]] = {
    "mean": lambda values: float(values.mean()),
    "max": lambda values: float(values.max()),
    "p90": lambda values: float(np.quantile(values, 0.9)),
}
"""arXiv 2606.19549, Section 3."""

Key = tuple[str, str]
"""(group, statistic), such as ("lower", "p90")."""

KEYS: Mapping[Resolution, tuple[Key, ...]] = {
    Resolution.MODULE: tuple((group, statistic) for group in GROUPS for statistic in STATISTICS),
    Resolution.LAYER: tuple((group, statistic) for group in ("all", *BANDS) for statistic in STATISTICS),
    Resolution.WHOLE: (("all", "value"),),
}
"""What a signal of each resolution is summarised into, in this order."""


def summarise(values: Values, resolution: Resolution, num_layers: int) -> dict[Key, float]:
    """Summarise a signal's values; NaN for a group that has none.

    Parameters
    ----------
    num_layers
        Blocks of the base model, which the bands are thirds of.
    """
    if resolution is Resolution.WHOLE:
        return {("all", "value"): values.get("", math.nan)}
    groups: dict[str, list[float]] = {}
    for place, value in values.items():
        for group in _groups_of(place, resolution, num_layers):
            groups.setdefault(group, []).append(value)
    arrays = {group: np.asarray(members, dtype=np.float64) for group, members in groups.items()}
    return {
        (group, statistic): STATISTICS[statistic](arrays[group]) if group in arrays else math.nan
        for group, statistic in KEYS[resolution]
    }


def weighted_mean(values: Values, weights: Mapping[str, float]) -> float:
    """Return the mean of a signal over modules, each counting by its weight; NaN where no weight is left.

    With |D_i| |D_j| as weights this is the norm-weighted average of arXiv 2606.19549, Section 3.
    """
    total = math.fsum(weights[place] for place in values)
    return math.fsum(weights[place] * value for place, value in values.items()) / total if total > 0 else math.nan


def _groups_of(place: str, resolution: Resolution, num_layers: int) -> tuple[str, ...]:
    if resolution is Resolution.MODULE:
        return place_of(place).groups(num_layers)
    return "all", band_of(int(place), num_layers)
