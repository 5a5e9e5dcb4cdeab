"""Signals: numbers measured on an adapter, or on what one adapter does to another.

An adapter is profiled once (`probe.profiles`), then pairs are compared cheaply. Every signal is a function of the
updates only: re-gauging the factors, (B G, G^-1 A), changes nothing.

How to add one: write a function of a profile or a pair in the file of its family, add its row at the end of that file
(a new family is a new file, and a line in the tables below), and raise `probe.features.SCHEMA_VERSION`. The contract
test in `tests/probe/test_signals.py` runs every row and holds it to its bounds and its symmetry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from probe.profiles import AdapterProfile
from probe.signals import activation, base, fisher, geometry, gradient, loss, metadata, rank_space
from probe.signals.signal import AdapterSignal, Family, Need, Pair, PairSignal, Resolution, Values

__all__ = [
    "ADAPTER_SIGNALS",
    "PAIR_SIGNALS",
    "AdapterSignal",
    "Family",
    "Measured",
    "Need",
    "Pair",
    "PairSignal",
    "Resolution",
    "Values",
    "measure_adapter",
    "measure_pair",
]

ADAPTER_SIGNALS: Mapping[str, AdapterSignal] = {
    row.key: row
    for row in (
        *geometry.ADAPTER_ROWS,
        *fisher.ADAPTER_ROWS,
        *gradient.ADAPTER_ROWS,
        *activation.ADAPTER_ROWS,
        *metadata.ADAPTER_ROWS,
        *base.ADAPTER_ROWS,
    )
}

PAIR_SIGNALS: Mapping[str, PairSignal] = {
    row.key: row
    for row in (
        *geometry.PAIR_ROWS,
        *rank_space.PAIR_ROWS,
        *fisher.PAIR_ROWS,
        *gradient.PAIR_ROWS,
        *activation.PAIR_ROWS,
        *loss.PAIR_ROWS,
        *metadata.PAIR_ROWS,
    )
}


@dataclass(frozen=True, slots=True)
class Measured:
    """What a signal gave: values, and where there are none, why."""

    values: Values
    missing: str | None = None


def measure_adapter(signal: AdapterSignal, profile: AdapterProfile) -> Measured:
    """Measure one signal on one adapter."""
    if Need.CALIBRATION in signal.needs and profile.calibration is None:
        return Measured({}, f"not measured: it needs {Need.CALIBRATION}")
    return _with_reason(signal.function(profile), signal.needs)


def measure_pair(signal: PairSignal, pair: Pair) -> Measured:
    """Measure one signal on one ordered pair."""
    if Need.CALIBRATION in signal.needs and (pair.first.calibration is None or pair.second.calibration is None):
        return Measured({}, f"not measured: it needs {Need.CALIBRATION}, for both adapters")
    if Need.CROSS_TASK in signal.needs and pair.cross_task is None:
        return Measured({}, f"not measured: it needs {Need.CROSS_TASK}")
    return _with_reason(signal.function(pair), signal.needs)


def _with_reason(values: Values, needs: frozenset[Need]) -> Measured:
    if values:
        return Measured(values)
    if Need.METADATA in needs:
        return Measured({}, f"unknown: it needs {Need.METADATA}")
    return Measured({}, "undefined: a zero update, nothing learnt yet, or no module in common")
