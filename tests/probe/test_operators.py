"""One contract for every row of `OPERATORS`: what all promise, and what each declares."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from probe.factors import LoraFactor, LoraUpdate, norm, scaled
from probe.operators import OPERATORS, Merged, Need, Operator, Property, Recipe, Space
from probe.operators.recipe import resolve_hyper_parameters, weights_by_band
from tests import tiny
from tests.probe.calibrations import random_calibration
from tests.probe.members import (
    FULL_RANK,
    SHAPES,
    assert_same,
    bank,
    calibrations_for,
    dense,
    dense_stack,
    merged_by,
    neutral,
    regauged,
    with_norm,
)
from tests.probe.oracles import ORACLES, case_of

operators = pytest.mark.parametrize("operator", OPERATORS)
norms = pytest.mark.parametrize("length", ["none", "mean_source", "ta"])
seeds = st.integers(0, 10_000)
weight_triples = st.lists(st.floats(0.2, 3.0), min_size=3, max_size=3).map(tuple)


def with_property(wanted: Property) -> pytest.MarkDecorator:
    """Run a test on every operator that promises `wanted`."""
    return pytest.mark.parametrize("operator", [key for key, row in OPERATORS.items() if wanted in row.properties])


def truncating_rank(operator: str) -> int:
    """Return a rank that truncates, where the operator allows that."""
    return FULL_RANK if Property.LOSSLESS in OPERATORS[operator].properties else 2


@operators
@norms
def test_a_lone_member_comes_back(operator: str, length: str) -> None:
    [update] = bank(0, 1)
    merged = merged_by(with_norm(neutral(operator), length), [update])
    assert_same(merged.update, dense(update))
    assert (merged.kept_energy, merged.norm_ratio_mean_source, merged.norm_ratio_ta) == pytest.approx((1, 1, 1))


@operators
@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_gauge_and_order_change_nothing(operator: str, seed: int) -> None:
    updates = bank(seed, 4)
    calibrations = calibrations_for(updates)
    recipe = Recipe(operator, weights=(1.0, 2.0, 0.5, 1.5), rank=truncating_rank(operator))
    mirrored = Recipe(operator, weights=(1.5, 0.5, 2.0, 1.0), rank=truncating_rank(operator))
    expected = merged_by(recipe, updates, calibrations)
    seen = merged_by(mirrored, [regauged(update, seed) for update in reversed(updates)], calibrations[::-1])
    assert_same(seen.update, dense(expected.update))


@operators
def test_rounding_is_no_direction(operator: str) -> None:
    """On these members it once was: a core's fifth singular value was 12 machine epsilons."""
    updates = bank(20084, 4)
    recipe = Recipe(operator, rank=truncating_rank(operator))
    calibrations = calibrations_for(updates)
    expected = dense(merged_by(recipe, updates, calibrations).update)
    seen = merged_by(recipe, [regauged(update, 20084) for update in updates][::-1], calibrations[::-1])
    assert_same(seen.update, expected)


@operators
def test_order_does_not_matter_among_members_of_equal_length(operator: str) -> None:
    """Members that are negations or copies of each other leave nothing but their content to order them by."""
    updates = bank(0, 2)
    twins = [updates[0], scaled(updates[0], -1.0), updates[1], updates[0]]
    calibrations = [*calibrations_for(updates)[:1] * 2, *calibrations_for(updates)[1:], calibrations_for(updates)[0]]
    expected = merged_by(operator, twins, calibrations)
    assert_same(merged_by(operator, twins[::-1], calibrations[::-1]).update, dense(expected.update))


@with_property(Property.SCALE_EQUIVARIANT)
@norms
def test_scaling_every_member_scales_the_result(operator: str, length: str) -> None:
    updates = bank(0)
    recipe = Recipe(operator, norm=length, rank=FULL_RANK)  # type: ignore[arg-type]
    thrice = merged_by(recipe, [scaled(update, 3.0) for update in updates])
    assert_same(thrice.update, dense(scaled(merged_by(recipe, updates).update, 3.0)))


@with_property(Property.ZERO_NEUTRAL)
@settings(max_examples=5, deadline=None)
@given(seed=seeds, position=st.integers(0, 3))
def test_a_zero_member_changes_nothing(operator: str, seed: int, position: int) -> None:
    updates = bank(seed)
    calibrations = calibrations_for(updates)
    expected = dense(merged_by(operator, updates, calibrations).update)
    zero = scaled(tiny.random_update(9, 2, SHAPES), 0.0)
    updates.insert(position, zero)
    calibrations.insert(position, random_calibration(99, SHAPES))
    assert_same(merged_by(operator, updates, calibrations).update, expected)


@with_property(Property.IDEMPOTENT)
def test_equal_members_merge_into_themselves(operator: str) -> None:
    [update] = bank(0, 1)
    assert_same(merged_by(neutral(operator), [update] * 3).update, dense(update))


@with_property(Property.LINEAR)
@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_linear_operators_add_up(operator: str, seed: int) -> None:
    first, second = bank(seed), bank(seed + 50)
    both = [
        LoraUpdate(
            {
                name: LoraFactor(
                    B=torch.cat([one.factors[name].B, two.factors[name].B], dim=1),
                    A=torch.cat([one.factors[name].A, two.factors[name].A], dim=0),
                )
                for name in one.factors
            }
        )
        for one, two in zip(first, second, strict=True)
    ]
    parts = [dense(merged_by(operator, members).update) for members in (first, second)]
    assert_same(merged_by(operator, both).update, {name: parts[0][name] + parts[1][name] for name in SHAPES})


@with_property(Property.SEEDED)
def test_equal_seeds_give_equal_bits_and_others_differ(operator: str) -> None:
    updates = [tiny.random_update(i, 4, SHAPES) for i in range(4)]
    results = [merged_by(Recipe(operator, rank=4, seed=seed), updates).update for seed in (0, 0, 1, 2, 3)]
    assert all(torch.equal(results[0].factors[name].B, results[1].factors[name].B) for name in SHAPES)
    assert any(not torch.allclose(dense(results[0])["a"], dense(other)["a"]) for other in results[2:])


@operators
def test_operators_that_declare_no_seed_draw_nothing(operator: str) -> None:
    updates = bank(0)
    if Property.SEEDED in OPERATORS[operator].properties:
        pytest.skip(f"{operator} draws")
    results = [merged_by(Recipe(operator, rank=FULL_RANK, seed=seed), updates).update for seed in (0, 1)]
    assert all(torch.equal(results[0].factors[name].B, results[1].factors[name].B) for name in SHAPES)


@operators
@pytest.mark.parametrize("is_neutral", [True, False])
@settings(max_examples=8, deadline=None)
@given(seed=seeds, weights=weight_triples)
def test_every_operator_agrees_with_its_dense_oracle(
    operator: str, is_neutral: bool, seed: int, weights: tuple[float, float, float]
) -> None:
    row = OPERATORS[operator]
    if Property.SEEDED in row.properties and row.hyper_parameters and not is_neutral:
        pytest.skip("draws random numbers at its defaults; see test_operators_rules.py")
    chosen = neutral(operator).hyper_parameters if is_neutral else row.defaults()
    agree_with_oracle(row, bank(seed), Recipe(operator, weights, "none", FULL_RANK, hyper_parameters=chosen))


@pytest.mark.parametrize("operator", ["ctm", "ctm_ties"])
@settings(max_examples=8, deadline=None)
@given(seed=seeds, beta=st.floats(0, 1), rank=st.integers(1, 6))
def test_operators_that_choose_a_subspace_agree_with_their_oracle_at_any_rank(
    operator: str, seed: int, beta: float, rank: int
) -> None:
    chosen = dict(OPERATORS[operator].defaults()) | {"beta": beta}
    updates = bank(seed)
    agree_with_oracle(OPERATORS[operator], updates, Recipe(operator, None, "none", rank, hyper_parameters=chosen))


def agree_with_oracle(row: Operator, updates: list[LoraUpdate], recipe: Recipe) -> None:
    calibrations = calibrations_for(updates) if row.needs else []
    hyper_parameters = resolve_hyper_parameters(row, recipe.hyper_parameters)
    weights = weights_by_band(recipe.weights, len(updates))["middle"]
    assert recipe.rank
    expected = {}
    for name, shape in SHAPES.items():
        stack = dense_stack(updates, name, shape)
        expected[name] = ORACLES[row.key](case_of(stack, weights, recipe.rank, hyper_parameters, calibrations, name))
    assert_same(merged_by(recipe, updates, calibrations).update, expected)


@operators
@settings(max_examples=3, deadline=None)
@given(seed=seeds)
def test_members_that_cancel_are_not_blown_up(operator: str, seed: int) -> None:
    [update] = bank(seed, 1)
    recipe = Recipe(operator, norm="mean_source", rank=FULL_RANK)
    calibrations = calibrations_for([update]) * 2
    length = norm(merged_by(recipe, [update, scaled(update, -1.0)], calibrations).update)
    assert length <= (1 + 1e-6) * norm(update)
    if Property.LINEAR in OPERATORS[operator].properties:
        assert length < 1e-6 * norm(update)


@operators
def test_zero_members_merge_into_zero(operator: str) -> None:
    zero = scaled(tiny.random_update(9, 2, SHAPES), 0.0)
    merged = merged_by(Recipe(operator, rank=4), [zero, zero])
    assert norm(merged.update) == 0
    assert (merged.kept_energy, merged.norm_ratio_mean_source, merged.norm_ratio_ta) == (1.0, 1.0, 1.0)


@operators
def test_bfloat16_members_are_merged_in_full_precision(operator: str) -> None:
    halved = [
        LoraUpdate({n: LoraFactor(B=f.B.bfloat16(), A=f.A.bfloat16()) for n, f in update.factors.items()})
        for update in bank(0)
    ]
    exact = [
        LoraUpdate({n: LoraFactor(B=f.B.double(), A=f.A.double()) for n, f in update.factors.items()})
        for update in halved
    ]
    merged = merged_by(Recipe(operator, rank=FULL_RANK), halved).update
    assert_same(merged, dense(merged_by(Recipe(operator, rank=FULL_RANK), exact).update))
    assert {tensor.dtype for factor in merged.factors.values() for tensor in (factor.A, factor.B)} == {torch.float32}


@operators
def test_truncation_keeps_the_best_part_of_every_module(operator: str) -> None:
    if Property.LOSSLESS in OPERATORS[operator].properties or operator in CHOOSES_BY_RANK:
        pytest.skip(f"{operator} does not truncate a result that knows nothing of the rank")
    updates, recipe = bank(0), neutral(operator)
    full = dense(merged_by(recipe, updates).update)
    merged = merged_by(replace(recipe, rank=2), updates)
    kept, total = 0.0, 0.0
    expected = {}
    for name, value in full.items():
        u, s, vh = torch.linalg.svd(value, full_matrices=False)
        expected[name] = u[:, :2] * s[:2] @ vh[:2]
        kept, total = kept + float(s[:2].square().sum()), total + float(s.square().sum())
    assert_same(merged.update, expected)
    assert merged.update.rank == 2
    assert merged.kept_energy == pytest.approx(kept / total)


CHOOSES_BY_RANK = ("ctm", "ctm_ties", "lego")
"""Operators that are told the rank, and lose nothing to truncation."""


@pytest.mark.parametrize("operator", CHOOSES_BY_RANK)
def test_operators_that_know_the_rank_are_not_truncated(operator: str) -> None:
    merged = merged_by(Recipe(operator, rank=2), bank(0))
    assert (merged.update.rank, merged.kept_energy) == (2, pytest.approx(1.0))


class _LargestTensor(TorchDispatchMode):
    """Watches every tensor that torch makes and keeps the largest element count."""

    def __init__(self) -> None:
        super().__init__()
        self.num_elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, Tensor):
                self.num_elements = max(self.num_elements, value.numel())
        return result


@operators
def test_no_dense_update_is_ever_made(operator: str) -> None:
    row = OPERATORS[operator]
    d_out, d_in, rank, num_members, num_directions = 600, 500, 4, 3, 5
    shapes = {"m": (d_out, d_in)}
    updates = [tiny.random_update(seed, rank, shapes) for seed in range(num_members)]
    calibrations = [random_calibration(seed, shapes, num_directions) for seed in range(num_members)]
    with _LargestTensor() as watch:
        merged_by(Recipe(operator, rank=16), updates, calibrations)
    directions = rank * num_members
    if Need.INPUTS in row.needs:
        bound = d_in * (directions + num_directions * num_members)
    else:
        bound = num_members * directions * d_in if row.space is Space.INPUTS else max(d_out, d_in) * directions
    assert 0 < watch.num_elements <= bound < d_out * d_in / 10


@operators
def test_every_row_documents_itself(operator: str) -> None:
    row = OPERATORS[operator]
    assert row.key == operator
    assert row.source
    assert row.rule.__doc__
    for parameter in row.hyper_parameters:
        low, high = parameter.bounds
        assert parameter.reason
        assert low <= parameter.default <= high
        assert parameter.neutral is None or low <= parameter.neutral <= high
    assert isinstance(merged_by(Recipe(operator), bank(0)), Merged)


def test_every_row_has_an_oracle() -> None:
    assert ORACLES.keys() == OPERATORS.keys()
