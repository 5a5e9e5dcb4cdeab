"""Base: what the base model makes of a task by itself, the dominant factor in "Will it Merge?" (arXiv 2601.06672)."""

from __future__ import annotations

import math

from probe.profiles import AdapterProfile
from probe.signals.signal import UNBOUNDED, AdapterSignal, Family, Need, Resolution, Values, calibration_of


def base_loss(profile: AdapterProfile) -> Values:
    """Return the base model's mean answer log-loss on the calibration set, nats a token."""
    return {"": calibration_of(profile).base_loss}


def base_accuracy(profile: AdapterProfile) -> Values:
    """Return the share of calibration rows whose whole answer the base model would give, 0..1."""
    return {"": calibration_of(profile).base_accuracy}


def learnt(profile: AdapterProfile) -> Values:
    """Return how many nats a token the adapter takes off the base model's loss on the calibration set."""
    return {"": calibration_of(profile).base_loss - calibration_of(profile).loss}


ADAPTER_ROWS = (
    AdapterSignal(
        key="base_loss",
        family=Family.BASE,
        function=base_loss,
        resolution=Resolution.WHOLE,
        needs=frozenset({Need.CALIBRATION}),
        cost="one forward of the calibration set",
        bounds=(0.0, math.inf),
        direction="higher = the base knows less of the task",
        source='"Will it Merge?", arXiv 2601.06672',
    ),
    AdapterSignal(
        key="base_accuracy",
        family=Family.BASE,
        function=base_accuracy,
        resolution=Resolution.WHOLE,
        needs=frozenset({Need.CALIBRATION}),
        cost="one forward of the calibration set",
        bounds=(0.0, 1.0),
        direction="higher = the base does the task already",
        source='"Will it Merge?", arXiv 2601.06672',
    ),
    AdapterSignal(
        key="learnt",
        family=Family.BASE,
        function=learnt,
        resolution=Resolution.WHOLE,
        needs=frozenset({Need.CALIBRATION}),
        cost="one forward of the calibration set",
        bounds=UNBOUNDED,
        direction="higher = the adapter has learnt more of the task so far",
        source="ours; base loss less adapted loss",
        has_slope=True,
    ),
)
