"""Activation: where the residual stream of each task lives, and how far one adapter moves the other's."""

from __future__ import annotations

import math

from probe.profiles import AdapterProfile, effective_rank
from probe.signals.rank_space import above_chance
from probe.signals.signal import (
    PAPER,
    AdapterSignal,
    Family,
    Need,
    Pair,
    PairSignal,
    Resolution,
    Values,
    calibration_of,
    cross_task_of,
)


def activation_rank(profile: AdapterProfile) -> Values:
    """Return the effective number of principal directions of the residual stream after every block, 1..q."""
    layers = calibration_of(profile).layers
    return {str(number): effective_rank(layer.energy.sqrt()) for number, layer in layers.items()}


def activation_overlap(pair: Pair) -> Values:
    """Return Omega_H of every block: overlap of the two tasks' principal subspaces, less chance."""
    first, second = calibration_of(pair.first).layers, calibration_of(pair.second).layers
    return {str(n): above_chance(first[n].P, second[n].P) for n in sorted(first.keys() & second.keys())}


def shift_of_base(pair: Pair) -> Values:
    """Return how far i moves the hidden states of j's rows, relative to their size, per block; directional."""
    return {str(number): value for number, value in cross_task_of(pair).shift.of_base.items()}


def shift_of_own(pair: Pair) -> Values:
    """Return how far i moves the hidden states of j's rows, relative to what j does there, per block; directional."""
    return {str(number): value for number, value in cross_task_of(pair).shift.of_own.items()}


ADAPTER_ROWS = (
    AdapterSignal(
        key="activation_rank",
        family=Family.ACTIVATION,
        function=activation_rank,
        resolution=Resolution.LAYER,
        needs=frozenset({Need.CALIBRATION}),
        cost="O(q) a block, from the profile",
        bounds=(1.0, math.inf),
        direction="higher = the task's hidden states fill more directions",
        source="ours; the spectrum of the PCA of arXiv 2606.19549, Section 3",
    ),
)
PAIR_ROWS = (
    PairSignal(
        key="activation_overlap",
        family=Family.ACTIVATION,
        function=activation_overlap,
        resolution=Resolution.LAYER,
        needs=frozenset({Need.CALIBRATION}),
        is_symmetric=True,
        cost="one d x q by q Gram a block",
        bounds=(-1.0, 1.0),
        direction="higher = the tasks live in the same directions of the residual stream",
        source="Omega_H of arXiv 2606.19549, Section 3, less chance",
    ),
    PairSignal(
        key="shift_of_base",
        family=Family.ACTIVATION,
        function=shift_of_base,
        resolution=Resolution.LAYER,
        needs=frozenset({Need.CROSS_TASK}),
        is_symmetric=False,
        cost="one forward of a subset of j's rows",
        bounds=(0.0, math.inf),
        direction="higher = i disturbs j's hidden states more",
        source=PAPER + " (cross-task activation shift)",
    ),
    PairSignal(
        key="shift_of_own",
        family=Family.ACTIVATION,
        function=shift_of_own,
        resolution=Resolution.LAYER,
        needs=frozenset({Need.CROSS_TASK}),
        is_symmetric=False,
        cost="one forward of a subset of j's rows",
        bounds=(0.0, math.inf),
        direction="over 1 = i moves j's hidden states further than j does",
        source="ours; the shift against what j itself does",
    ),
)
