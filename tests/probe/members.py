"""Members to merge, and how to compare what comes out."""

# ruff: noqa: N806 - G is what every LoRA paper calls a change of gauge

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from probe.factors import LoraFactor, LoraUpdate
from probe.operators import OPERATORS, Merged, Recipe, merge
from probe.profiles import Calibration
from tests import tiny
from tests.probe.calibrations import random_calibration

SHAPES = {"a": (20, 12), "b": (9, 16), "c": (12, 12)}
FULL_RANK = 64
"""Above every core here, so that nothing is truncated."""


def bank(seed: int, num_members: int = 3) -> list[LoraUpdate]:
    """Return members of mixed ranks that do not all have every module."""
    patterns: list[dict[str, int]] = [{"a": 2, "b": 1}, {"a": 3, "b": 3, "c": 4}, {"a": 1, "c": 2}]
    return [tiny.random_update(seed + i, patterns[i % 3], SHAPES) for i in range(num_members)]


def calibrations_for(members: Sequence[LoraUpdate], seed: int = 0) -> list[Calibration]:
    """Return one random calibration a member, of all modules that any member has."""
    shapes = {name: factor.shape for update in members for name, factor in update.factors.items()}
    return [random_calibration(seed + index, shapes) for index in range(len(members))]


def merged_by(
    recipe: Recipe | str, updates: Sequence[LoraUpdate], calibrations: Sequence[Calibration] | None = None
) -> Merged:
    """Merge at full rank without a norm rule, or by a recipe; operators that read data get some."""
    if isinstance(recipe, str):
        recipe = Recipe(recipe, norm="none", rank=FULL_RANK)
    needed = OPERATORS[recipe.operator].needs
    return merge(updates, recipe, (calibrations or calibrations_for(updates)) if needed else None)


def neutral(operator: str) -> Recipe:
    """Return the recipe at which the operator changes as little as it can, at full rank, without a norm rule."""
    values = {p.name: p.default if p.neutral is None else p.neutral for p in OPERATORS[operator].hyper_parameters}
    return Recipe(operator, norm="none", rank=FULL_RANK, hyper_parameters=values)


def dense(update: LoraUpdate) -> dict[str, Tensor]:
    return {name: factor.B.double() @ factor.A.double() for name, factor in update.factors.items()}


def dense_stack(updates: Sequence[LoraUpdate], name: str, shape: tuple[int, int]) -> Tensor:
    """Return (n, d_out, d_in), one module of every member; absent ones are zero."""
    zero = torch.zeros(shape, dtype=torch.float64)
    return torch.stack([dense(update).get(name, zero) for update in updates])


def assert_same(
    seen: LoraUpdate, expected: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, int]] = SHAPES
) -> None:
    """Compare whole updates; a module that is absent is zero."""
    updates = dense(seen)
    for name, shape in shapes.items():
        zero = torch.zeros(shape, dtype=torch.float64)
        torch.testing.assert_close(updates.get(name, zero), expected.get(name, zero), rtol=1e-4, atol=1e-4)


def regauged(update: LoraUpdate, seed: int) -> LoraUpdate:
    """Return the same update by other factors, in float64 so that it stays the same."""
    factors = {}
    for name, factor in update.factors.items():
        noise = torch.randn(factor.rank, factor.rank, generator=torch.Generator().manual_seed(seed)).double()
        G = noise + 3 * torch.eye(factor.rank)
        factors[name] = LoraFactor(B=factor.B.double() @ G, A=torch.linalg.solve(G, factor.A.double()))
    return LoraUpdate(factors)


def with_norm(recipe: Recipe, length: str) -> Recipe:
    return replace(recipe, norm=length)
