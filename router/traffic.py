"""Simulated traffic: how many requests each adapter gets in a tick. A table, so that adding a trace is adding a row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

TICKS_A_DAY = 24
BURST_CHANCE, BURST_FACTOR = 0.02, 20.0

Trace = Callable[[int], NDArray[np.float64]]
"""Tick -> requests of each adapter, (n,), in any unit."""


def uniform(num_adapters: int, _seed: int) -> Trace:
    """Return a trace in which all adapters get the same."""
    requests = np.ones(num_adapters)
    return lambda _: requests


def zipf(num_adapters: int, seed: int) -> Trace:
    """Return a trace in which the k-th most popular adapter gets 1/k of the most popular one's requests."""
    popularity = 1.0 / (1 + np.random.default_rng([seed, 2]).permutation(num_adapters))
    return lambda _: popularity


def diurnal(num_adapters: int, seed: int) -> Trace:
    """Return a Zipf trace in which every adapter has a busy hour of its own in a day of `TICKS_A_DAY` ticks."""
    popularity = zipf(num_adapters, seed)(0)
    phase = np.random.default_rng([seed, 3]).random(num_adapters)

    def requests(tick: int) -> NDArray[np.float64]:
        swing: NDArray[np.float64] = 1.0 + np.cos(2 * math.pi * (tick / TICKS_A_DAY - phase))
        return popularity * swing

    return requests


def bursts(num_adapters: int, seed: int) -> Trace:
    """Return a Zipf trace in which now and then an adapter gets many times its requests for a tick."""
    popularity = zipf(num_adapters, seed)(0)

    def requests(tick: int) -> NDArray[np.float64]:
        is_burst = np.random.default_rng([seed, 4, tick]).random(num_adapters) < BURST_CHANCE
        factor: NDArray[np.float64] = np.where(is_burst, BURST_FACTOR, 1.0)
        return popularity * factor

    return requests


TRACES: Mapping[str, Callable[[int, int], Trace]] = {
    "uniform": uniform,
    "zipf": zipf,
    "diurnal": diurnal,
    "bursts": bursts,
}
"""Name -> (number of adapters, seed) -> trace."""


def by_name(names: Sequence[str], requests: NDArray[np.float64]) -> dict[str, float]:
    """Return adapter name -> requests, as a `BankState` takes them."""
    return dict(zip(names, requests.tolist(), strict=True))
