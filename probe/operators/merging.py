"""Merge updates module by module in core space, control the norm, truncate to the output rank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from probe.factors import LoraFactor, LoraUpdate, core_space, norm, scaled, tolerance, truncate
from probe.operators.linear import task_arithmetic
from probe.operators.operator import Operator
from probe.records import MergeProbeError

Norm = Literal["none", "mean_source", "ta"]
"""How long the merged update is before truncation.

none: as the operator leaves it. mean_source: as long as its members on average, mean_i |D_i|. ta: as long as their
weighted sum. |.| is the Frobenius norm over the WHOLE update and one scalar multiplies every module: a norm per module
would amplify modules in which members cancel or hardly learnt anything, against the proportions that training chose.
"""


class MergeError(MergeProbeError):
    """These updates cannot be merged in this way."""


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """A merged update and what the merge did to its length; norms are of the update as it is served.

    Attributes
    ----------
    kept_energy
        0..1, share of the squared norm that truncation kept, summed over all modules; 1 for a zero update.
    norm_ratio_mean_source
        |M| / mean_i |D_i|, >= 0; large displacement tracks failure on language models (arXiv 2511.21437).
    norm_ratio_ta
        |M| / |sum_i w_i D_i|, >= 0; infinite where the members' sum vanishes and M does not.
    """

    update: LoraUpdate
    kept_energy: float
    norm_ratio_mean_source: float
    norm_ratio_ta: float


@dataclass(frozen=True, slots=True, eq=False)
class _MergedModule:
    """One module's truncated factor, and squared norms: kept, before truncation, and of task arithmetic."""

    factor: LoraFactor
    kept: float
    total: float
    ta: float


def merge_with(
    operator: Operator, updates: Sequence[LoraUpdate], weights: Sequence[float] | None, length: Norm, rank: int
) -> Merged:
    """Apply one operator; see `probe.operators.merge`."""
    weights = [1.0] * len(updates) if weights is None else list(weights)
    _check(updates, weights, length, rank)
    weight_tensor = torch.tensor(weights, dtype=torch.float64)
    names = sorted({name for update in updates for name in update.factors})
    modules = {name: _merge_module(operator, _factors(updates, name), weight_tensor, rank) for name in names}
    return _assemble(modules, [norm(update) for update in updates], weights, length)


def _factors(updates: Sequence[LoraUpdate], name: str) -> list[LoraFactor | None]:
    factors = [update.factors.get(name) for update in updates]
    shapes = {factor.shape for factor in factors if factor is not None}
    if len(shapes) > 1:
        raise MergeError(f"Module {name!r} has the shapes {sorted(shapes)}; merge adapters of one base model only.")
    return factors


def _merge_module(
    operator: Operator, factors: Sequence[LoraFactor | None], weights: Tensor, rank: int
) -> _MergedModule:
    space = core_space(factors)
    factor, kept, total = truncate(space, operator.rule(space.cores, weights), rank)
    ta = float(task_arithmetic(space.cores, weights).square().sum())
    return _MergedModule(factor=factor, kept=kept, total=total, ta=ta)


def _assemble(
    modules: dict[str, _MergedModule], source_norms: Sequence[float], weights: Sequence[float], length: Norm
) -> Merged:
    kept, total, ta = (
        math.fsum(squares)
        for squares in zip(*((module.kept, module.total, module.ta) for module in modules.values()), strict=True)
    )
    mean_source = math.fsum(source_norms) / len(source_norms)
    before = math.sqrt(total)
    target = {"none": before, "mean_source": mean_source, "ta": math.sqrt(ta)}[length]
    # Members that cancel out leave only rounding: stretching that to a target length would serve noise.
    size = max(max(module.factor.shape) for module in modules.values())
    noise = tolerance(size) * math.fsum(w * s for w, s in zip(weights, source_norms, strict=True))
    scale = target / before if before > noise else 1.0
    update = scaled(LoraUpdate({name: module.factor for name, module in modules.items()}), scale)
    served = math.sqrt(kept) * scale
    return Merged(
        update=update,
        kept_energy=_ratio(kept, total),
        norm_ratio_mean_source=_ratio(served, mean_source),
        norm_ratio_ta=_ratio(served, math.sqrt(ta)),
    )


def _ratio(value: float, reference: float) -> float:
    """Divide two lengths; two zeros are equally long."""
    if reference == 0:
        return 1.0 if value == 0 else math.inf
    return value / reference


def _check(updates: Sequence[LoraUpdate], weights: Sequence[float], length: Norm, rank: int) -> None:
    if not updates or not all(update.factors for update in updates):
        raise MergeError(f"Got {len(updates)} updates; expected one or more, each with a module.")
    if len(weights) != len(updates) or not all(0 < weight < math.inf for weight in weights):
        raise MergeError(f"Got the weights {weights} for {len(updates)} updates; expected one positive number each.")
    if length not in get_args(Norm):
        raise MergeError(f"Norm rule {length!r} is unknown; expected one of {get_args(Norm)}.")
    if rank < 1:
        raise MergeError(f"Output rank is {rank}; expected 1 or more.")
