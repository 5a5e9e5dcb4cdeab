"""What a row of the signal table says."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from probe.profiles import AdapterProfile, Calibration, CrossTask, ModuleProfile

PAPER = "arXiv 2606.19549, Section 3"
UNBOUNDED = (-math.inf, math.inf)


class Family(StrEnum):
    """Families of `mergeprobe.md`: which way a merge can fail."""

    GEOMETRY = "update geometry"
    RANK_SPACE = "rank space"
    FISHER = "Fisher"
    GRADIENT = "gradient"
    ACTIVATION = "activation"
    LOSS = "loss"
    METADATA = "metadata"
    BASE = "base"
    DYNAMICS = "dynamics"


class Need(StrEnum):
    """What a signal is measured from; the value is what to say where it is missing."""

    WEIGHTS = "the adapters' weights"
    CALIBRATION = "a calibration pass: rows and the base model"
    CROSS_TASK = "forward passes of the partner's rows under the adapter"
    METADATA = "metadata: what is known of the training run"


class Resolution(StrEnum):
    """What a signal has one value for: every module, every block of the residual stream, or the adapter as a whole."""

    MODULE = "module"
    LAYER = "layer"
    WHOLE = "whole"


Values = Mapping[str, float]
"""Module name, block number as text, or "" for a whole -> value. Places where it is undefined are left out."""


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """An ordered pair of adapters: signals ask what `first` does to `second`.

    Attributes
    ----------
    cross_task
        What `first` does on the rows of `second`; None where it was not measured.
    """

    first: AdapterProfile
    second: AdapterProfile
    cross_task: CrossTask | None = None

    @property
    def modules(self) -> dict[str, tuple[ModuleProfile, ModuleProfile]]:
        """The modules that both updates change, in the first one's order."""
        shared = (name for name in self.first.modules if name in self.second.modules)
        return {name: (self.first.modules[name], self.second.modules[name]) for name in shared}


@dataclass(frozen=True, slots=True)
class AdapterSignal:
    """A number about one adapter.

    Attributes
    ----------
    function
        The adapter's profile -> values; called only where what it needs is there.
    cost
        Of one adapter, for a module of width d and rank r.
    bounds
        Least and greatest possible value.
    direction
        What a high or low value means.
    source
        Where it comes from.
    has_slope
        Whether its slope over the early checkpoints is a feature too.
    """

    key: str
    family: Family
    function: Callable[[AdapterProfile], Values]
    resolution: Resolution
    needs: frozenset[Need]
    cost: str
    bounds: tuple[float, float]
    direction: str
    source: str
    has_slope: bool = False


@dataclass(frozen=True, slots=True)
class PairSignal:
    """A number about what the first adapter does to the second.

    Attributes are those of `AdapterSignal`, and:

    Attributes
    ----------
    function
        The ordered pair -> values; called only where what it needs is there.
    is_symmetric
        Whether i on j equals j on i.
    has_variance
        Whether its variance over the early checkpoints is a feature too.
    """

    key: str
    family: Family
    function: Callable[[Pair], Values]
    resolution: Resolution
    needs: frozenset[Need]
    is_symmetric: bool
    cost: str
    bounds: tuple[float, float]
    direction: str
    source: str
    has_variance: bool = False


def cross_task_of(pair: Pair) -> CrossTask:
    """Return the forward passes that a signal needs; whoever calls a signal has seen to it that they are there."""
    assert pair.cross_task is not None, "a signal was called without what it needs"
    return pair.cross_task


def calibration_of(profile: AdapterProfile) -> Calibration:
    """Return the calibration that a signal needs; whoever calls a signal has seen to it that it is there."""
    assert profile.calibration is not None, "a signal was called without what it needs"
    return profile.calibration
