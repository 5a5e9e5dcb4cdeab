"""Update geometry: how long two updates are, which way they point, and whether their entries pull apart."""

from __future__ import annotations

import math

import torch

from probe.factors import LoraFactor, core_space
from probe.profiles import AdapterProfile, ModuleProfile, effective_rank
from probe.signals.signal import PAPER, UNBOUNDED, AdapterSignal, Family, Need, Pair, PairSignal, Resolution, Values


def energy(profile: AdapterProfile) -> Values:
    """Return log10 |D| of every module, |.| the Frobenius norm."""
    return {name: math.log10(module.norm) for name, module in profile.modules.items()}


def spectral_rank(profile: AdapterProfile) -> Values:
    """Return the effective rank of every module's update, 1..r."""
    return {name: effective_rank(module.s) for name, module in profile.modules.items()}


def top_share(profile: AdapterProfile) -> Values:
    """Return the share of each module's squared norm along its strongest direction, 1/r..1."""
    return {name: float(module.s[0].double() ** 2) / module.norm**2 for name, module in profile.modules.items()}


def cosine(pair: Pair) -> Values:
    """Return the Frobenius cosine of every common module's updates, -1..1 (arXiv 2606.19549, Eq. 4)."""
    return {
        name: _inner_product(first, second) / (first.norm * second.norm)
        for name, (first, second) in pair.modules.items()
    }


def absolute_cosine(pair: Pair) -> Values:
    """Return |cosine| of every common module's updates, 0..1."""
    return {name: abs(value) for name, value in cosine(pair).items()}


def update_cosine(pair: Pair) -> Values:
    """Return the Frobenius cosine of the two whole updates, -1..1; undefined if one is zero.

    The sum of the modules' inner products over the product of the whole norms, so a module counts by its energy and
    one that a single update has counts as orthogonal.
    """
    lengths = pair.first.norm * pair.second.norm
    inner = math.fsum(_inner_product(first, second) for first, second in pair.modules.values())
    return {"": inner / lengths} if lengths > 0 else {}


def norm_ratio(pair: Pair) -> Values:
    """Return the shorter update's norm over the longer one's in every common module, 0..1."""
    return {name: _shorter_over_longer(a.norm, b.norm) for name, (a, b) in pair.modules.items()}


def update_norm_ratio(pair: Pair) -> Values:
    """Return the shorter whole update's norm over the longer one's, 0..1; undefined if both are zero."""
    norms = pair.first.norm, pair.second.norm
    return {"": _shorter_over_longer(*norms)} if max(norms) > 0 else {}


def norm_share(pair: Pair) -> Values:
    """Return |D_i|^2 / (|D_i|^2 + |D_j|^2) of every common module, 0..1: how far i outweighs j; directional."""
    return {name: 1 / (1 + (b.norm / a.norm) ** 2) for name, (a, b) in pair.modules.items()}


def sign_conflict(pair: Pair) -> Values:
    """Return, for every common module, the share of entries that disagree in sign, weighted by |c_i c_j|, 0..1.

    Entries are those of the two cores in their shared bases (`probe.factors.core_space`): the coordinates in which our
    TIES elects its signs. 0.5 is what unrelated updates have; under 0.5 they agree, over 0.5 they pull apart.
    """
    return {name: _sign_conflict(first, second) for name, (first, second) in pair.modules.items()}


def _inner_product(first: ModuleProfile, second: ModuleProfile) -> float:
    """Return <D_1, D_2> = s_1^T ((U_1^T U_2) * (V_1^T V_2)) s_2, in O(d r^2)."""
    agreement = (first.U.T @ second.U).double() * (first.V.T @ second.V).double()
    return float(first.s.double() @ agreement @ second.s.double())


def _sign_conflict(first: ModuleProfile, second: ModuleProfile) -> float:
    factors = [LoraFactor(B=module.U * module.s, A=module.V.T) for module in (first, second)]
    products = torch.prod(core_space(factors).cores, dim=0)
    return float(products.clamp(max=0).sum().abs() / products.abs().sum())


def _shorter_over_longer(first: float, second: float) -> float:
    short, long = sorted((first, second))
    return short / long


ADAPTER_ROWS = (
    AdapterSignal(
        key="energy",
        family=Family.GEOMETRY,
        function=energy,
        resolution=Resolution.MODULE,
        needs=frozenset({Need.WEIGHTS}),
        cost="O(r) a module, from the profile",
        bounds=UNBOUNDED,
        direction="higher = moves the base further",
        source="arXiv 2606.19549, Appendix E (update energy)",
        has_slope=True,
    ),
    AdapterSignal(
        key="spectral_rank",
        family=Family.GEOMETRY,
        function=spectral_rank,
        resolution=Resolution.MODULE,
        needs=frozenset({Need.WEIGHTS}),
        cost="O(r) a module, from the profile",
        bounds=(1.0, math.inf),
        direction="higher = spread over more directions, so truncation costs more",
        source="arXiv 2606.19549, Appendix E (effective rank)",
        has_slope=True,
    ),
    AdapterSignal(
        key="top_share",
        family=Family.GEOMETRY,
        function=top_share,
        resolution=Resolution.MODULE,
        needs=frozenset({Need.WEIGHTS}),
        cost="O(r) a module, from the profile",
        bounds=(0.0, 1.0),
        direction="higher = one direction carries the update",
        source="ours; complements the effective rank",
        has_slope=True,
    ),
)
PAIR_ROWS = (
    PairSignal(
        key="cosine",
        family=Family.GEOMETRY,
        function=cosine,
        resolution=Resolution.MODULE,
        needs=frozenset({Need.WEIGHTS}),
        is_symmetric=True,
        cost="two d x r by r Grams a module",
        bounds=(-1.0, 1.0),
        direction="over 0.7 the sum over-amplifies, under -0.2 it cancels",
        source="arXiv 2606.19549, Eq. 4",
        has_variance=True,
    ),
    PairSignal(
        key="absolute_cosine",
        family=Family.GEOMETRY,
        function=absolute_cosine,
        resolution=Resolution.MODULE,
        needs=frozenset({Need.WEIGHTS}),
        is_symmetric=True,
        cost="two d x r by r Grams a module",
        bounds=(0.0, 1.0),
        direction="higher = the updates share a direction, either way",
        source="arXiv 2606.19549, Eq. 4 (absolute values)",
    ),
    PairSignal(
        key="update_cosine",
        family=Family.GEOMETRY,
        function=update_cosine,
        resolution=Resolution.WHOLE,
        needs=frozenset({Need.WEIGHTS}),
        is_symmetric=True,
        cost="two d x r by r Grams a module",
        bounds=(-1.0, 1.0),
        direction="as cosine, over the whole update",
        source="arXiv 2606.19549, Section 3",
    ),
    PairSignal(
        key="norm_ratio",
        family=Family.GEOMETRY,
        function=norm_ratio,
        resolution=Resolution.MODULE,
        needs=frozenset({Need.WEIGHTS}),
        is_symmetric=True,
        cost="O(r) a module",
        bounds=(0.0, 1.0),
        direction="lower = the longer update drowns the shorter",
        source=PAPER,
    ),
    PairSignal(
        key="update_norm_ratio",
        family=Family.GEOMETRY,
        function=update_norm_ratio,
        resolution=Resolution.WHOLE,
        needs=frozenset({Need.WEIGHTS}),
        is_symmetric=True,
        cost="O(r) a module",
        bounds=(0.0, 1.0),
        direction="lower = the longer update drowns the shorter",
        source=PAPER,
    ),
    PairSignal(
        key="norm_share",
        family=Family.GEOMETRY,
        function=norm_share,
        resolution=Resolution.MODULE,
        needs=frozenset({Need.WEIGHTS}),
        is_symmetric=False,
        cost="O(r) a module",
        bounds=(0.0, 1.0),
        direction="higher = i outweighs j in their sum",
        source="ours; the norm ratio, directional",
    ),
    PairSignal(
        key="sign_conflict",
        family=Family.GEOMETRY,
        function=sign_conflict,
        resolution=Resolution.MODULE,
        needs=frozenset({Need.WEIGHTS}),
        is_symmetric=True,
        cost="QR of two d x 2r stacks a module: for neighbours, not for all pairs",
        bounds=(0.0, 1.0),
        direction="over 0.5 entries pull apart, under 0.5 they agree",
        source="arXiv 2606.19549, Section 2.2; TIES, arXiv 2306.01708, in core coordinates",
    ),
)
