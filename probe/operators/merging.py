"""Merge updates module by module in core space, control the norm, truncate to the output rank."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import get_args

import torch
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from probe.factors import (
    CoreSpace,
    FactorError,
    LoraFactor,
    LoraUpdate,
    check_factor,
    core_space,
    input_coordinates,
    norm,
    scaled,
    tolerance,
    truncate,
)
from probe.operators.data import check_calibrations, fisher_of_entries, input_directions, input_moments, input_powers
from probe.operators.linear import task_arithmetic
from probe.operators.operator import Members, Need, Norm, Operator, Property, Space
from probe.operators.recipe import (
    MergeError,
    Recipe,
    band_of_module,
    depth_of,
    joint_rank,
    output_rank,
    resolve_hyper_parameters,
    weights_by_band,
    without_pruned,
)
from probe.profiles import Calibration

# Cores have been through several products, so their zeros are less exact than those of one decomposition. A rule that
# looks at directions alone would take rounding for one as strong as any; float32 ends far above either bound.
_MARGIN = 100


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
    rank
        The output rank that was asked for or chosen; `update.rank` may be lower.
    """

    update: LoraUpdate
    kept_energy: float
    norm_ratio_mean_source: float
    norm_ratio_ta: float
    rank: int


@dataclass(frozen=True, slots=True, eq=False)
class _MergedModule:
    """One module's truncated factor, and squared norms: kept, before truncation, and of task arithmetic."""

    factor: LoraFactor
    kept: float
    total: float
    ta: float


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """A checked recipe for one operator: what is the same for all modules."""

    operator: Operator
    hyper_parameters: dict[str, float]
    weights: dict[str, tuple[float, ...]]
    num_layers: int
    rank: int
    seed: int
    calibrations: Sequence[Calibration] = field(default=())


def merge_with(
    operator: Operator, updates: Sequence[LoraUpdate], recipe: Recipe, calibrations: Sequence[Calibration] | None
) -> Merged:
    """Apply one operator; see `probe.operators.merge`."""
    _check(operator, updates, calibrations)
    with _computing("Pruning"):
        kept = without_pruned(updates, recipe.pruned)
    if recipe.norm is not None and recipe.norm not in get_args(Norm):
        raise MergeError(f"Norm rule {recipe.norm!r} is unknown; expected one of {get_args(Norm)}.")
    rank = _default_rank(operator, kept) if recipe.rank is None else recipe.rank
    if rank < 1:
        raise MergeError(f"Output rank is {rank}; expected 1 or more.")
    job = _Job(
        operator=operator,
        hyper_parameters=dict(resolve_hyper_parameters(operator, recipe.hyper_parameters)),
        weights=dict(weights_by_band(recipe.weights, len(kept))),
        num_layers=depth_of(updates),
        rank=rank,
        seed=recipe.seed,
        calibrations=calibrations or (),
    )
    names = sorted({name for update in kept for name in update.factors})
    modules = {name: _merge_module(job, name, [update.factors.get(name) for update in kept]) for name in names}
    return _assemble(job, modules, [norm(update) for update in kept], recipe.norm or operator.norm)


def _default_rank(operator: Operator, updates: Sequence[LoraUpdate]) -> int:
    ranks = [update.rank for update in updates]
    return joint_rank(ranks) if Property.LOSSLESS in operator.properties else output_rank(max(ranks))


def _merge_module(job: _Job, name: str, factors: Sequence[LoraFactor | None]) -> _MergedModule:
    shape = _common_shape(name, factors)
    if job.operator.needs:
        check_calibrations(job.calibrations, name, shape)
    with _computing(f"Module {name!r} by {job.operator.key}"):
        members, space = _members(job, name, factors)
        # Rules need not care for modules in which every member is zero: such a core has no rows to speak of.
        is_changed = bool(members.is_present.any())
        core = job.operator.rule(members, **job.hyper_parameters) if is_changed else task_arithmetic(members)
        factor, kept, total = truncate(space, core, job.rank)
    if Property.LOSSLESS in job.operator.properties and kept < total * (1 - tolerance(space.size)):
        raise MergeError(
            f"Module {name!r}: {job.operator.key} needs a rank over {job.rank} to keep everything; "
            "ask for a larger rank, or use 'svd', which truncates."
        )
    return _MergedModule(factor=factor, kept=kept, total=total, ta=float(task_arithmetic(members).square().sum()))


def _members(job: _Job, name: str, factors: Sequence[LoraFactor | None]) -> tuple[Members, CoreSpace]:
    operator, calibrations = job.operator, job.calibrations
    reads_inputs = Need.INPUTS in operator.needs
    space = core_space(factors, input_directions(calibrations, name) if reads_inputs else None)
    if operator.space is Space.INPUTS:
        space = input_coordinates(space)
    weights = job.weights[band_of_module(name, job.num_layers)]
    members = Members(
        cores=space.cores,
        weights=torch.tensor(weights, dtype=torch.float64),
        rank=job.rank,
        generator=torch.Generator().manual_seed(zlib.crc32(f"{job.seed} {name}".encode())),
        tolerance=_MARGIN * tolerance(space.size),
        fisher=fisher_of_entries(space, calibrations, name) if Need.FISHER in operator.needs else None,
        input_moments=input_moments(space, calibrations, name) if reads_inputs else None,
        input_power=input_powers(calibrations, name) if reads_inputs else None,
    )
    return members, space


def _assemble(job: _Job, modules: dict[str, _MergedModule], source_norms: Sequence[float], length: Norm) -> Merged:
    kept, total, ta = (
        math.fsum(squares)
        for squares in zip(*((module.kept, module.total, module.ta) for module in modules.values()), strict=True)
    )
    mean_source = math.fsum(source_norms) / len(source_norms)
    before = math.sqrt(total)
    target = {"none": before, "mean_source": mean_source, "ta": math.sqrt(ta)}[length]
    # Members that cancel out leave only rounding: stretching that to a target length would serve noise.
    size = max(max(module.factor.shape) for module in modules.values())
    largest = max(max(weights) for weights in job.weights.values())
    scale = target / before if before > tolerance(size) * largest * math.fsum(source_norms) else 1.0
    update = scaled(LoraUpdate({name: module.factor for name, module in modules.items()}), scale)
    if not all(factor.B.isfinite().all() for factor in update.factors.values()):
        raise MergeError(f"The norm rule {length!r} scales the result by {scale:.3g}, too large for float32.")
    served = math.sqrt(kept) * scale
    return Merged(
        update=update,
        kept_energy=_ratio(kept, total),
        norm_ratio_mean_source=_ratio(served, mean_source),
        norm_ratio_ta=_ratio(served, math.sqrt(ta)),
        rank=job.rank,
    )


def _ratio(value: float, reference: float) -> float:
    """Divide two lengths; two zeros are equally long."""
    if reference == 0:
        return 1.0 if value == 0 else math.inf
    return value / reference


def _check(operator: Operator, updates: Sequence[LoraUpdate], calibrations: Sequence[Calibration] | None) -> None:
    if not updates or not all(update.factors for update in updates):
        raise MergeError(f"Got {len(updates)} updates; expected one or more, each with a module.")
    for index, update in enumerate(updates):
        for name, factor in update.factors.items():
            with _computing(f"Member {index}, module {name!r}"):
                check_factor(factor)
    if operator.needs and (calibrations is None or len(calibrations) != len(updates)):
        needed = " and ".join(sorted(need.value for need in operator.needs))
        raise MergeError(
            f"Operator {operator.key!r} reads the {needed}: it needs one calibration a member "
            f"(`probe.calibration.calibrate`), got {0 if calibrations is None else len(calibrations)}."
        )


@contextmanager
def _computing(what: str) -> Iterator[None]:
    """Turn numbers that cannot be computed with into a merge error that says where."""
    try:
        yield
    except FactorError as error:
        raise MergeError(f"{what}: {error}") from error
    except LinAlgError as error:
        raise MergeError(f"{what}: {error}; merge by another operator, or other members.") from error


def _common_shape(name: str, factors: Sequence[LoraFactor | None]) -> tuple[int, int]:
    shapes = {factor.shape for factor in factors if factor is not None}
    if len(shapes) > 1:
        raise MergeError(f"Module {name!r} has the shapes {sorted(shapes)}; merge adapters of one base model only.")
    return shapes.pop()
