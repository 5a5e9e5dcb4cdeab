"""Gradient: which way each task's loss pulls the weights, from two-sided sketches of per-module gradients.

Gradients are with respect to Delta-W (Algorithm 1 of arXiv 2606.19549), because those of LoRA factors depend on the
gauge. A cosine of sketches estimates the cosine of the gradients with an error of about 0.07 a module
(`probe.calibration.sketch` says how that was measured).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from probe.profiles import AdapterProfile
from probe.signals.signal import (
    PAPER,
    UNBOUNDED,
    AdapterSignal,
    Family,
    Need,
    Pair,
    PairSignal,
    Resolution,
    Values,
    calibration_of,
)


def gradient_norm(profile: AdapterProfile) -> Values:
    """Return log10 of the norm of every module's mean gradient at the checkpoint."""
    norms = {name: module.gradient_norm for name, module in calibration_of(profile).modules.items()}
    return {name: math.log10(norm) for name, norm in norms.items() if norm > 0}


def gradient_cosine(pair: Pair) -> Values:
    """Return the cosine of the two tasks' gradients at their adapters, -1..1, per module; negative = conflict."""
    return _cosines(_at_checkpoint(pair.first), _at_checkpoint(pair.second))


def base_gradient_cosine(pair: Pair) -> Values:
    """Return the cosine of the two tasks' gradients at the base model, -1..1, per module."""
    return _cosines(calibration_of(pair.first).base_gradients, calibration_of(pair.second).base_gradients)


def negative_gradients(pair: Pair) -> Values:
    """Return the share of modules whose gradients have a negative cosine, 0..1."""
    cosines = gradient_cosine(pair).values()
    return {"": sum(value < 0 for value in cosines) / len(cosines)} if cosines else {}


def _at_checkpoint(profile: AdapterProfile) -> Mapping[str, Tensor]:
    return {name: module.gradient for name, module in calibration_of(profile).modules.items()}


def _cosines(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Values:
    values = {}
    for name in first.keys() & second.keys():
        one, other = first[name].double(), second[name].double()
        lengths = float(one.norm() * other.norm())
        if lengths > 0:
            values[name] = float((one * other).sum()) / lengths
    return values


ADAPTER_ROWS = (
    AdapterSignal(
        key="gradient_norm",
        family=Family.GRADIENT,
        function=gradient_norm,
        resolution=Resolution.MODULE,
        needs=frozenset({Need.CALIBRATION}),
        cost="O(k^2) a module, from the sketch",
        bounds=UNBOUNDED,
        direction="higher = training would still move this module",
        source="arXiv 2606.19549, Algorithm 1",
        has_slope=True,
    ),
)
PAIR_ROWS = (
    PairSignal(
        key="gradient_cosine",
        family=Family.GRADIENT,
        function=gradient_cosine,
        resolution=Resolution.MODULE,
        needs=frozenset({Need.CALIBRATION}),
        is_symmetric=True,
        cost="O(k^2) a module",
        bounds=(-1.0, 1.0),
        direction="negative = the tasks pull the weights apart",
        source="arXiv 2606.19549, Section 3 and Algorithm 1",
        has_variance=True,
    ),
    PairSignal(
        key="base_gradient_cosine",
        family=Family.GRADIENT,
        function=base_gradient_cosine,
        resolution=Resolution.MODULE,
        needs=frozenset({Need.CALIBRATION}),
        is_symmetric=True,
        cost="O(k^2) a module",
        bounds=(-1.0, 1.0),
        direction="negative = the tasks pull the base apart",
        source="arXiv 2606.19549, Algorithm 1, before training",
    ),
    PairSignal(
        key="negative_gradients",
        family=Family.GRADIENT,
        function=negative_gradients,
        resolution=Resolution.WHOLE,
        needs=frozenset({Need.CALIBRATION}),
        is_symmetric=True,
        cost="O(k^2) a module",
        bounds=(0.0, 1.0),
        direction="higher = conflict in more of the modules",
        source=PAPER,
    ),
)
