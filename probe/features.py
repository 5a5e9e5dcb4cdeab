"""Features: every signal as a fixed-order vector, one for an adapter, one for a pair, two for its directions.

The order is that of the tables of `probe.signals` and of `probe.signals.summary`; `SCHEMA_VERSION` names it. What could
not be measured is NaN, with a reason, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from probe.layers import BANDS
from probe.profiles import AdapterProfile, CrossTask
from probe.signals import (
    ADAPTER_SIGNALS,
    PAIR_SIGNALS,
    AdapterSignal,
    Family,
    Measured,
    Pair,
    PairSignal,
    Resolution,
    measure_adapter,
    measure_pair,
)
from probe.signals.dynamics import slope, variance
from probe.signals.summary import KEYS, Key, summarise, weighted_mean
from probe.vectors import SCHEMA_VERSION as SCHEMA_VERSION
from probe.vectors import FeatureError as FeatureError
from probe.vectors import Features as Features
from probe.vectors import PairFeatures as PairFeatures
from probe.vectors import Standardisation as Standardisation
from probe.vectors import Vector as Vector
from probe.vectors import pair_vector as pair_vector

Summary = Mapping[Key, float]


@dataclass(frozen=True, slots=True)
class Column:
    """One feature: which signal, over which group of modules, by which statistic.

    `family` is that of the signal, or dynamics for slopes and variances over checkpoints.
    """

    signal: str
    group: str
    statistic: str
    family: Family

    @property
    def name(self) -> str:
        """Name for reports, such as ``cosine/lower/p90``."""
        return f"{self.signal}/{self.group}/{self.statistic}"


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """An adapter as far as it is known: its profiles at the checkpoints seen so far, earliest first.

    Attributes
    ----------
    fractions
        Share of training at each, strictly rising, in (0, 1]; a finished adapter without early checkpoints is (1,).
    profiles
        One a fraction; the last one is the adapter as it is now.
    """

    fractions: tuple[float, ...]
    profiles: tuple[AdapterProfile, ...]

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.fractions, self.fractions[1:], strict=False))
        if not self.fractions or len(self.fractions) != len(self.profiles) or not rising:
            raise FeatureError(
                f"A trajectory needs one profile for each of its strictly rising fractions; got {self.fractions} "
                f"for {len(self.profiles)} profiles."
            )

    @property
    def now(self) -> AdapterProfile:
        """The latest profile."""
        return self.profiles[-1]

    def at(self, fraction: float) -> AdapterProfile:
        """Return the profile at a fraction, or the latest where it was not observed there."""
        return dict(zip(self.fractions, self.profiles, strict=True)).get(fraction, self.now)


SLOPE_KEYS: tuple[Key, ...] = tuple((group, "mean") for group in ("all", *BANDS))
"""What is followed over the checkpoints: the mean of everything and of each band."""


def _followed(resolution: Resolution) -> tuple[Key, ...]:
    return KEYS[resolution] if resolution is Resolution.WHOLE else SLOPE_KEYS


def _columns_of(signal: AdapterSignal | PairSignal) -> list[Column]:
    columns = [Column(signal.key, group, statistic, signal.family) for group, statistic in KEYS[signal.resolution]]
    if isinstance(signal, PairSignal) and signal.resolution is Resolution.MODULE:
        columns.append(Column(signal.key, "all", "weighted", signal.family))
    followed = _followed(signal.resolution)
    if isinstance(signal, AdapterSignal) and signal.has_slope:
        columns += [Column(signal.key, group, f"slope of {stat}", Family.DYNAMICS) for group, stat in followed]
    if isinstance(signal, PairSignal) and signal.has_variance:
        columns += [Column(signal.key, group, f"variance of {stat}", Family.DYNAMICS) for group, stat in followed]
    return columns


def _columns(signals: Sequence[AdapterSignal | PairSignal]) -> tuple[Column, ...]:
    return tuple(column for signal in signals for column in _columns_of(signal))


_SYMMETRIC = tuple(signal for signal in PAIR_SIGNALS.values() if signal.is_symmetric)
_DIRECTED = tuple(signal for signal in PAIR_SIGNALS.values() if not signal.is_symmetric)
ADAPTER_COLUMNS = _columns(tuple(ADAPTER_SIGNALS.values()))
SYMMETRIC_COLUMNS = _columns(_SYMMETRIC)
DIRECTED_COLUMNS = _columns(_DIRECTED)


def adapter_features(adapter: Trajectory) -> Features:
    """Return z_i, in the order of `ADAPTER_COLUMNS`, for the adapter's latest profile and the way to it."""
    return _collect(ADAPTER_SIGNALS.values(), lambda signal: _adapter_values(signal, adapter))


def pair_features(
    first: Trajectory, second: Trajectory, forth: CrossTask | None = None, back: CrossTask | None = None
) -> PairFeatures:
    """Return z_i->j, z_j->i and z_ij.

    Parameters
    ----------
    forth, back
        What i does on j's rows, and j on i's; None where it was not measured.
    """
    there, here = Pair(first.now, second.now, forth), Pair(second.now, first.now, back)
    return PairFeatures(
        forth=_collect(_DIRECTED, lambda signal: _pair_values(signal, first, second, there)),
        back=_collect(_DIRECTED, lambda signal: _pair_values(signal, second, first, here)),
        symmetric=_collect(_SYMMETRIC, lambda signal: _pair_values(signal, first, second, there)),
    )


def pair_vector_names() -> tuple[str, ...]:
    """Return the names of the entries of `pair_vector`."""
    own = [column.name for column in ADAPTER_COLUMNS]
    directed = [column.name for column in DIRECTED_COLUMNS]
    blocks = (("i", own), ("j", own), ("|i-j|", own), ("i*j", own), ("i->j", directed), ("j->i", directed))
    named = [f"{block}: {name}" for block, names in blocks for name in names]
    return (*named, *(f"ij: {column.name}" for column in SYMMETRIC_COLUMNS))


Signal = TypeVar("Signal", AdapterSignal, PairSignal)
Collected = tuple[list[float], str | None]


def _collect(signals: Iterable[Signal], values_of: Callable[[Signal], Collected]) -> Features:
    values: list[float] = []
    missing: dict[str, str] = {}
    for signal in signals:
        own, reason = values_of(signal)
        values += own
        for column, value in zip(_columns_of(signal), own, strict=True):
            if math.isnan(value):
                missing[column.name] = reason or _why_undefined(column)
    return Features(np.asarray(values, dtype=np.float64), missing)


def _why_undefined(column: Column) -> str:
    if column.family is Family.DYNAMICS and column.statistic != "value":
        return "it needs two or more early checkpoints at which the signal is defined"
    return f"no module where it is defined is in group {column.group!r}"


def _adapter_values(signal: AdapterSignal, adapter: Trajectory) -> Collected:
    measured = [measure_adapter(signal, profile) for profile in adapter.profiles]
    depth = adapter.now.num_layers
    summaries = [summarise(one.values, signal.resolution, depth) for one in measured]
    values = list(summaries[-1].values())
    if signal.has_slope:
        followed = _followed(signal.resolution)
        values += [slope(adapter.fractions, [summary[key] for summary in summaries]) for key in followed]
    return values, measured[-1].missing


def _pair_values(signal: PairSignal, first: Trajectory, second: Trajectory, pair: Pair) -> Collected:
    depth = max(first.now.num_layers, second.now.num_layers)
    measured = measure_pair(signal, pair)
    values = list(summarise(measured.values, signal.resolution, depth).values())
    if signal.resolution is Resolution.MODULE:
        values.append(_weighted(measured, pair))
    if signal.has_variance:
        fractions = sorted({*first.fractions, *second.fractions})
        pairs = [Pair(first.at(rho), second.at(rho)) for rho in fractions]
        over = [summarise(measure_pair(signal, one).values, signal.resolution, depth) for one in pairs]
        values += [variance([summary[key] for summary in over]) for key in _followed(signal.resolution)]
    return values, measured.missing


def _weighted(measured: Measured, pair: Pair) -> float:
    """Average over the modules that both updates change, each by the product of their norms there."""
    weights = {name: first.norm * second.norm for name, (first, second) in pair.modules.items()}
    values = {name: value for name, value in measured.values.items() if name in weights}
    return weighted_mean(values, weights) if values else math.nan
