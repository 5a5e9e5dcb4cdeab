"""Where one adapter's update hurts another's task, layer by layer: what pruning goes by, and what reasons name.

To second order an update D raises task j's loss by 1/2 <D, D>_F under j's diagonal Fisher F (`probe.signals.fisher`).
"""

from __future__ import annotations

import numpy as np

from probe.layers import place_of
from probe.profiles import AdapterProfile, Calibration
from probe.signals import Pair
from probe.signals.fisher import fisher_product
from probe.vectors import Vector

HALF = 0.5
"""Share of the damage that lies "mostly" somewhere."""


def fisher_damage(pair: Pair) -> Vector:
    """Return (layers,), <D_i, D_i>_F of the first update in each under the second's Fisher, over all of <D_j, D_j>_F.

    0 = harmless; a sum of 1 = as heavy, where task j is sensitive, as j's own update. Empty where the second has no
    calibration, or its own update does not matter to it. Modules outside the numbered layers do not count.
    """
    calibration = pair.second.calibration
    if calibration is None:
        return np.empty(0)
    own = _by_layer(pair.second, calibration).sum()
    return _by_layer(pair.first, calibration) / own if own > 0 else np.empty(0)


def layers_of_most(damage: Vector) -> tuple[int, ...]:
    """Return the shortest run of layers in which half of the damage lies; empty where that takes half of the layers."""
    depth, total = len(damage), damage.sum()
    if total <= 0:
        return ()
    before = np.concatenate([[0.0], np.cumsum(damage)])
    for length in range(1, (depth + 1) // 2):
        sums = before[length:] - before[:-length]
        start = int(sums.argmax())
        if sums[start] >= HALF * total:
            return tuple(range(start, start + length))
    return ()


def _by_layer(profile: AdapterProfile, calibration: Calibration) -> Vector:
    costs = np.zeros(profile.num_layers)
    for name, module in profile.modules.items():
        layer = place_of(name).layer
        if layer is not None and name in calibration.modules:
            costs[layer] += fisher_product(module, module, calibration.modules[name])
    return costs
