"""Fisher: how much each task's loss minds what the updates do, by the rank-one proxy of the diagonal Fisher.

F = f_out f_in^T / total for a module, so <D_i, D_j>_F = sum((B_i^T diag(f_out) B_j) * (A_i diag(f_in) A_j^T)) / total
takes two small Grams, and no entry of F or Delta-W is formed. 1/2 <D, D>_F is the second-order rise of the loss that
the update D causes (to first order the gradient decides).

References
----------
arXiv 2606.19549, Section 3 and Appendix E; Kirkpatrick et al. (arXiv 1612.00796) for the diagonal Fisher as curvature.
"""

from __future__ import annotations

import math

from probe.profiles import AdapterProfile, ModuleCalibration, ModuleProfile
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


def fisher_trace(profile: AdapterProfile) -> Values:
    """Return log10 of the trace of every module's diagonal Fisher; higher = the task minds any change there."""
    totals = {name: module.fisher_total for name, module in calibration_of(profile).modules.items()}
    return {name: math.log10(total) for name, total in totals.items() if total > 0}


def fisher_cost(profile: AdapterProfile) -> Values:
    """Return log10 <D, D>_F of every adapted module under the adapter's own Fisher."""
    costs = {
        name: fisher_product(module, module, calibration_of(profile).modules[name])
        for name, module in profile.modules.items()
        if name in calibration_of(profile).modules
    }
    return {name: math.log10(cost) for name, cost in costs.items() if cost > 0}


def fisher_overlap(pair: Pair) -> Values:
    """Return |cosine| of the two updates under the Fisher of j, 0..1, per common module; directional."""
    values = {}
    for name, (first, second, fisher) in _modules(pair).items():
        lengths = fisher_product(first, first, fisher) * fisher_product(second, second, fisher)
        if lengths > 0:
            values[name] = min(1.0, abs(fisher_product(first, second, fisher)) / math.sqrt(lengths))
    return values


def fisher_load(pair: Pair) -> Values:
    """Return log10 of <D_i, D_i>_F / <D_j, D_j>_F under the Fisher of j, per common module; directional.

    Over 0: where task j is sensitive, adapter i weighs more than j's own update.
    """
    values = {}
    for name, (first, second, fisher) in _modules(pair).items():
        load, own = fisher_product(first, first, fisher), fisher_product(second, second, fisher)
        if load > 0 and own > 0:
            values[name] = math.log10(load / own)
    return values


def fisher_product(first: ModuleProfile, second: ModuleProfile, fisher: ModuleCalibration) -> float:
    """Return <D_1, D_2>_F = s_1^T ((U_1^T diag(f_out) U_2) * (V_1^T diag(f_in) V_2)) s_2 / total, in O(d r^2).

    0 where the Fisher is zero: nothing the updates do there would matter.
    """
    if fisher.fisher_total == 0:
        return 0.0
    left = (first.U.T * fisher.f_out) @ second.U
    right = (first.V.T * fisher.f_in) @ second.V
    return float(first.s.double() @ (left.double() * right.double()) @ second.s.double()) / fisher.fisher_total


def _modules(pair: Pair) -> dict[str, tuple[ModuleProfile, ModuleProfile, ModuleCalibration]]:
    fishers = calibration_of(pair.second).modules
    return {name: (first, second, fishers[name]) for name, (first, second) in pair.modules.items() if name in fishers}


ADAPTER_ROWS = (
    AdapterSignal(
        key="fisher_trace",
        family=Family.FISHER,
        function=fisher_trace,
        resolution=Resolution.MODULE,
        needs=frozenset({Need.CALIBRATION}),
        cost="O(d) a module",
        bounds=UNBOUNDED,
        direction="higher = the task minds changes there",
        source=PAPER,
        has_slope=True,
    ),
    AdapterSignal(
        key="fisher_cost",
        family=Family.FISHER,
        function=fisher_cost,
        resolution=Resolution.MODULE,
        needs=frozenset({Need.WEIGHTS, Need.CALIBRATION}),
        cost="two d x r by r Grams a module",
        bounds=UNBOUNDED,
        direction="higher = its own update lies where its own loss is sensitive",
        source="arXiv 2606.19549, Section 3 (Fisher-weighted), on the adapter itself",
        has_slope=True,
    ),
)
PAIR_ROWS = (
    PairSignal(
        key="fisher_overlap",
        family=Family.FISHER,
        function=fisher_overlap,
        resolution=Resolution.MODULE,
        needs=frozenset({Need.WEIGHTS, Need.CALIBRATION}),
        is_symmetric=False,
        cost="three Fisher-weighted Grams a module",
        bounds=(0.0, 1.0),
        direction="higher = they overlap where j is sensitive: a costlier conflict",
        source=PAPER + " (Omega_F)",
    ),
    PairSignal(
        key="fisher_load",
        family=Family.FISHER,
        function=fisher_load,
        resolution=Resolution.MODULE,
        needs=frozenset({Need.WEIGHTS, Need.CALIBRATION}),
        is_symmetric=False,
        cost="two Fisher-weighted Grams a module",
        bounds=UNBOUNDED,
        direction="over 0 = i weighs more than j where j is sensitive",
        source="ours; the quadratic penalty of arXiv 1612.00796 as a ratio",
    ),
)
