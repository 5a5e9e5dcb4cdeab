# ruff: noqa: N806 - B, A and the like are what every LoRA paper calls these matrices
import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from probe.factors import LoraFactor, LoraUpdate, inner_product, norm, scaled
from probe.operators import OPERATORS, Merged, MergeError, Property, merge
from tests import tiny

SHAPES = {"a": (20, 12), "b": (9, 16), "c": (12, 12)}
FULL_RANK = 64
"""Above every core here, so that nothing is truncated."""

operators = pytest.mark.parametrize("operator", OPERATORS)
seeds = st.integers(0, 10_000)


def with_property(wanted: Property) -> pytest.MarkDecorator:
    """Run a test on every operator; skip those that do not promise `wanted`."""
    rows = [
        pytest.param(key, marks=[] if wanted in row.properties else pytest.mark.skip(reason=f"{key} is not {wanted}"))
        for key, row in OPERATORS.items()
    ]
    return pytest.mark.parametrize("operator", rows)


def dense(update: LoraUpdate) -> dict[str, Tensor]:
    return {name: factor.B.double() @ factor.A.double() for name, factor in update.factors.items()}


def assert_same(seen: LoraUpdate, expected: dict[str, Tensor]) -> None:
    """Compare whole updates; a module that is absent is zero."""
    updates = dense(seen)
    for name, shape in SHAPES.items():
        zero = torch.zeros(shape, dtype=torch.float64)
        torch.testing.assert_close(updates.get(name, zero), expected.get(name, zero), rtol=1e-4, atol=1e-4)


def bank(seed: int, num_members: int = 3) -> list[LoraUpdate]:
    """Return members of mixed ranks that do not all have every module."""
    patterns: list[dict[str, int]] = [{"a": 2, "b": 1}, {"a": 3, "b": 3, "c": 4}, {"a": 1, "c": 2}]
    return [tiny.random_update(seed + i, patterns[i % 3], SHAPES) for i in range(num_members)]


def regauged(update: LoraUpdate, seed: int) -> LoraUpdate:
    factors = {}
    for name, factor in update.factors.items():
        noise = torch.randn(factor.rank, factor.rank, generator=torch.Generator().manual_seed(seed)).double()
        G = noise + 3 * torch.eye(factor.rank)
        factors[name] = LoraFactor(B=factor.B.double() @ G, A=torch.linalg.solve(G, factor.A.double()))
    return LoraUpdate(factors)


def dense_sum(updates: Sequence[LoraUpdate], weights: Sequence[float]) -> dict[str, Tensor]:
    """The oracle for linear operators: weighted sums of dense updates."""
    total = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in SHAPES.items()}
    for update, weight in zip(updates, weights, strict=True):
        for name, value in dense(update).items():
            total[name] += weight * value
    return total


@operators
@pytest.mark.parametrize("length", ["none", "mean_source", "ta"])
def test_a_lone_member_comes_back(operator: str, length: str) -> None:
    [update] = bank(0, 1)
    merged = merge([update], operator, norm=length, rank=FULL_RANK)  # type: ignore[arg-type]
    assert_same(merged.update, dense(update))
    assert (merged.kept_energy, merged.norm_ratio_mean_source, merged.norm_ratio_ta) == pytest.approx((1, 1, 1))


@operators
@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_gauge_and_order_change_nothing(operator: str, seed: int) -> None:
    updates = bank(seed)
    expected = dense(merge(updates, operator, rank=2).update)
    assert_same(merge([regauged(update, seed) for update in reversed(updates)], operator, rank=2).update, expected)


@with_property(Property.SCALE_EQUIVARIANT)
@pytest.mark.parametrize("length", ["none", "mean_source", "ta"])
def test_scaling_every_member_scales_the_result(operator: str, length: str) -> None:
    updates = bank(0)
    merged = merge(updates, operator, norm=length, rank=FULL_RANK)  # type: ignore[arg-type]
    thrice = merge([scaled(update, 3.0) for update in updates], operator, norm=length, rank=FULL_RANK)  # type: ignore[arg-type]
    assert_same(thrice.update, dense(scaled(merged.update, 3.0)))


@with_property(Property.ZERO_NEUTRAL)
def test_a_zero_member_changes_nothing(operator: str) -> None:
    updates = bank(0)
    zero = scaled(tiny.random_update(9, 2, SHAPES), 0.0)
    assert_same(
        merge([*updates, zero], operator, norm="none", rank=FULL_RANK).update,
        dense(merge(updates, operator, norm="none", rank=FULL_RANK).update),
    )


@with_property(Property.IDEMPOTENT)
def test_equal_members_merge_into_themselves(operator: str) -> None:
    [update] = bank(0, 1)
    assert_same(merge([update] * 3, operator, norm="none", rank=FULL_RANK).update, dense(update))


@with_property(Property.LINEAR)
@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_linear_operators_agree_with_dense_sums(operator: str, seed: int) -> None:
    updates = bank(seed)
    share = {"ta": 1.0, "mean": 1 / len(updates)}[operator]
    merged = merge(updates, operator, norm="none", rank=FULL_RANK)
    assert_same(merged.update, dense_sum(updates, [share] * len(updates)))


def test_weights_are_those_of_the_oracle() -> None:
    updates, weights = bank(0), [0.5, 2.0, 1.5]
    assert_same(merge(updates, "ta", weights, "none", rank=FULL_RANK).update, dense_sum(updates, weights))
    halved = [weight / 4 for weight in weights]
    assert_same(merge(updates, "mean", weights, "none", rank=FULL_RANK).update, dense_sum(updates, halved))


@operators
def test_truncation_keeps_the_best_part_of_every_module(operator: str) -> None:
    updates = bank(0)
    full = dense(merge(updates, operator, norm="none", rank=FULL_RANK).update)
    merged = merge(updates, operator, norm="none", rank=2)
    kept, total = 0.0, 0.0
    expected = {}
    for name, value in full.items():
        u, s, vh = torch.linalg.svd(value, full_matrices=False)
        expected[name] = u[:, :2] * s[:2] @ vh[:2]
        kept, total = kept + float(s[:2].square().sum()), total + float(s.square().sum())
    assert_same(merged.update, expected)
    assert merged.update.rank == 2
    assert merged.kept_energy == pytest.approx(kept / total)


@operators
@pytest.mark.parametrize("rank", [2, FULL_RANK])
def test_norm_rules_set_the_length_before_truncation(operator: str, rank: int) -> None:
    updates = bank(0)
    sources = sum(norm(update) for update in updates) / len(updates)
    ta = math.sqrt(sum(float(value.square().sum()) for value in dense_sum(updates, [1.0] * 3).values()))
    for length, target in (("mean_source", sources), ("ta", ta)):
        merged = merge(updates, operator, norm=length, rank=rank)  # type: ignore[arg-type]
        served = target * math.sqrt(merged.kept_energy)
        assert norm(merged.update) == pytest.approx(served, rel=1e-5)
        assert merged.norm_ratio_mean_source == pytest.approx(served / sources)
        assert merged.norm_ratio_ta == pytest.approx(served / ta)


@operators
def test_one_scalar_scales_all_modules(operator: str) -> None:
    """Pins the choice: the norm rule is about the whole update, so it leaves its direction alone."""
    updates = bank(0)
    free = merge(updates, operator, norm="none", rank=FULL_RANK).update
    held = merge(updates, operator, norm="mean_source", rank=FULL_RANK).update
    assert inner_product(free, held) / norm(free) / norm(held) == pytest.approx(1.0)


@operators
def test_members_that_cancel_are_not_blown_up(operator: str) -> None:
    [update] = bank(0, 1)
    merged = merge([update, scaled(update, -1.0)], operator, norm="mean_source", rank=4)
    assert norm(merged.update) < 1e-6 * norm(update)


@operators
def test_zero_members_merge_into_zero(operator: str) -> None:
    zero = scaled(tiny.random_update(9, 2, SHAPES), 0.0)
    merged = merge([zero, zero], operator, rank=4)
    assert norm(merged.update) == 0
    assert (merged.kept_energy, merged.norm_ratio_mean_source, merged.norm_ratio_ta) == (1.0, 1.0, 1.0)


@operators
def test_results_are_float32_and_serve_bfloat16_members(operator: str) -> None:
    updates = [
        LoraUpdate(
            {n: LoraFactor(B=f.B.bfloat16().float(), A=f.A.bfloat16().float()) for n, f in update.factors.items()}
        )
        for update in bank(0)
    ]
    merged = merge(updates, operator, rank=4)
    assert {t.dtype for f in merged.update.factors.values() for t in (f.A, f.B)} == {torch.float32}


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
    d_out, d_in, rank, num_members = 600, 500, 4, 3
    updates = [tiny.random_update(seed, rank, {"m": (d_out, d_in)}) for seed in range(num_members)]
    with _LargestTensor() as watch:
        merge(updates, operator, rank=8)
    assert 0 < watch.num_elements <= max(d_out, d_in) * rank * num_members


ONE = tiny.random_update(0, 2, SHAPES)
REFUSALS: list[tuple[list[LoraUpdate], dict[str, object], str]] = [
    ([], {}, "expected one or more"),
    ([LoraUpdate({})], {}, "expected one or more"),
    ([ONE], {"operator": "magic"}, "'magic' is unknown"),
    ([ONE], {"weights": [1.0, 1.0]}, "one positive number each"),
    ([ONE], {"weights": [math.nan]}, "one positive number each"),
    ([ONE], {"norm": "longest"}, "'longest' is unknown"),
    ([ONE], {"rank": 0}, "expected 1 or more"),
    ([ONE, tiny.random_update(0, 2, {"a": (3, 4)})], {}, "one base model only"),
]


@pytest.mark.parametrize(("updates", "arguments", "message"), REFUSALS)
def test_misuse_is_refused(updates: list[LoraUpdate], arguments: dict[str, object], message: str) -> None:
    with pytest.raises(MergeError, match=message):
        merge(updates, **{"operator": "ta", "rank": 4} | arguments)  # type: ignore[arg-type]


@operators
def test_every_row_documents_itself(operator: str) -> None:
    row = OPERATORS[operator]
    assert row.key == operator
    assert row.source
    assert row.rule.__doc__
    assert all(parameter.reason for parameter in row.hyper_parameters)
    assert isinstance(merge([ONE], operator, rank=1), Merged)
