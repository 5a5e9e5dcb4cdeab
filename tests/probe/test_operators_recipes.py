"""What composes with every operator: weights by band, norm rules, pruning, hyper-parameters; and every refusal."""

# ruff: noqa: N806 - B, A and the like are what every LoRA paper calls these matrices

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from probe.factors import LoraFactor, LoraUpdate, canonical, inner_product, norm, scaled
from probe.operators import OPERATORS, MergeError, Property, Pruned, Recipe, merge, output_rank
from probe.operators.merging import merge_with
from probe.operators.operator import Members
from probe.profiles import Calibration
from tests import tiny
from tests.probe.calibrations import random_calibration, with_module
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
)

operators = pytest.mark.parametrize("operator", OPERATORS)
truncating = pytest.mark.parametrize(
    "operator", [key for key, row in OPERATORS.items() if Property.LOSSLESS not in row.properties]
)


def weighted_sum(updates: Sequence[LoraUpdate], weights: Sequence[float]) -> dict[str, Tensor]:
    scales = torch.tensor(weights, dtype=torch.float64)[:, None, None]
    return {name: (scales * dense_stack(updates, name, shape)).sum(0) for name, shape in SHAPES.items()}


def length_of(updates: dict[str, Tensor]) -> float:
    return math.hypot(*(float(value.norm()) for value in updates.values()))


@truncating
@pytest.mark.parametrize("rank", [2, FULL_RANK])
def test_norm_rules_set_the_length_before_truncation(operator: str, rank: int) -> None:
    updates = bank(0)
    sources = sum(norm(update) for update in updates) / len(updates)
    ta = length_of(weighted_sum(updates, [1.0] * 3))
    for length, target in (("mean_source", sources), ("ta", ta)):
        merged = merged_by(Recipe(operator, norm=length, rank=rank), updates)  # type: ignore[arg-type]
        served = target * math.sqrt(merged.kept_energy)
        assert norm(merged.update) == pytest.approx(served, rel=1e-5)
        assert merged.norm_ratio_mean_source == pytest.approx(served / sources)
        assert merged.norm_ratio_ta == pytest.approx(served / ta)


@operators
def test_one_scalar_scales_all_modules(operator: str) -> None:
    """Pins the choice: the norm rule is about the whole update, so it leaves its direction alone."""
    updates = bank(0)
    free, held = (
        merged_by(Recipe(operator, norm=length, rank=FULL_RANK), updates).update  # type: ignore[arg-type]
        for length in ("none", "mean_source")
    )
    assert inner_product(free, held) / norm(free) / norm(held) == pytest.approx(1.0)


@operators
def test_an_operator_has_a_norm_rule_of_its_own(operator: str) -> None:
    merged = merged_by(Recipe(operator, rank=FULL_RANK), bank(0))
    expected = merged_by(Recipe(operator, norm=OPERATORS[operator].norm, rank=FULL_RANK), bank(0))
    assert merged.norm_ratio_mean_source == expected.norm_ratio_mean_source


def test_the_default_rank_is_one_that_the_engine_has() -> None:
    updates = [tiny.random_update(seed, 3, SHAPES) for seed in range(4)]
    assert merge(updates, Recipe("ta")).rank == 8  # the largest member has 3
    assert merge(updates, Recipe("concat")).rank == 16  # all members together have 12
    assert [output_rank(rank) for rank in (1, 2, 8, 9, 600)] == [1, 8, 8, 16, 512]


LAYERED = {f"model.layers.{layer}.self_attn.q_proj": (9, 8) for layer in range(3)} | {"embed": (6, 7)}


def test_weights_may_differ_by_layer_band() -> None:
    updates = [tiny.random_update(seed, 2, LAYERED) for seed in range(2)]
    merged = merge(updates, Recipe("ta", ((1.0, 2.0, 3.0), 0.5), "none", FULL_RANK))
    first, second = (dense(update) for update in updates)
    scales = dict(zip(LAYERED, (1.0, 2.0, 3.0, 2.0), strict=True))  # outside the blocks counts to the middle
    expected = {name: scale * first[name] + 0.5 * second[name] for name, scale in scales.items()}
    assert_same(merged.update, expected, LAYERED)


@operators
def test_one_weight_is_the_same_in_every_band(operator: str) -> None:
    updates = [tiny.random_update(seed, 2, LAYERED) for seed in range(2)]
    results = [
        merged_by(Recipe(operator, weights, rank=FULL_RANK), updates).update
        for weights in ((2.0, 0.5), ((2.0,) * 3, (0.5,) * 3))
    ]
    assert_same(results[0], dense(results[1]), LAYERED)


@operators
def test_a_pruned_module_is_a_module_that_the_member_never_had(operator: str) -> None:
    updates, calibrations = bank(0), calibrations_for(bank(0))
    pruned = merged_by(Recipe(operator, rank=FULL_RANK, pruned=(Pruned(1, "b"),)), updates, calibrations)
    factors = {name: factor for name, factor in updates[1].factors.items() if name != "b"}
    without = [updates[0], LoraUpdate(factors), updates[2]]
    assert_same(pruned.update, dense(merged_by(Recipe(operator, rank=FULL_RANK), without, calibrations).update))


@operators
def test_a_pruned_component_is_a_singular_direction_less(operator: str) -> None:
    updates, calibrations = bank(0), calibrations_for(bank(0))
    own = canonical(updates[1].factors["a"])
    kept = LoraFactor(B=own.B[:, [0, 2]], A=own.A[[0, 2]])
    without = [updates[0], LoraUpdate({**updates[1].factors, "a": kept}), updates[2]]
    pruned = merged_by(Recipe(operator, rank=FULL_RANK, pruned=(Pruned(1, "a", 1),)), updates, calibrations)
    assert_same(pruned.update, dense(merged_by(Recipe(operator, rank=FULL_RANK), without, calibrations).update))


def test_pruning_every_component_is_pruning_the_module() -> None:
    updates = bank(0)
    pruned = (Pruned(2, "c", 1), Pruned(2, "c", 0))
    seen = merge(updates, Recipe("ta", rank=FULL_RANK, pruned=pruned))
    assert_same(seen.update, dense(merge(updates, Recipe("ta", rank=FULL_RANK, pruned=(Pruned(2, "c"),))).update))


@operators
def test_hyper_parameters_reach_the_rule(operator: str) -> None:
    """Each moves the result between its bounds, so none of them is dead."""
    updates = [tiny.random_update(seed, 4, {"m": (16, 14)}) for seed in range(3)]
    for parameter in OPERATORS[operator].hyper_parameters:
        recipe = replace(neutral(operator), rank=5)
        low, high = (
            merged_by(
                replace(recipe, hyper_parameters={**OPERATORS[operator].defaults(), parameter.name: value}), updates
            )
            for value in parameter.bounds
        )
        assert norm_of_difference(low.update, high.update) > 1e-3 * norm(low.update), parameter.name


def norm_of_difference(first: LoraUpdate, second: LoraUpdate) -> float:
    return length_of({name: value - dense(second)[name] for name, value in dense(first).items()})


ONE = tiny.random_update(0, 2, SHAPES)
EMPTY = LoraUpdate({"m": LoraFactor(B=torch.zeros(5, 0), A=torch.zeros(0, 4))})
TOO_WIDE = LoraUpdate({"m": LoraFactor(B=torch.ones(5, 6), A=torch.ones(6, 9))})


def holding(value: float) -> LoraUpdate:
    B = torch.ones(5, 1)
    B[2] = value
    return LoraUpdate({"m": LoraFactor(B=B, A=torch.ones(1, 4))})


REFUSALS: list[tuple[list[LoraUpdate], dict[str, Any], str]] = [
    ([], {}, "Got 0 updates; expected one or more"),
    ([LoraUpdate({})], {}, "expected one or more"),
    ([ONE], {"operator": "magic"}, "'magic' is unknown; expected one of"),
    ([ONE], {"weights": (1.0, 1.0)}, "one positive number each"),
    ([ONE], {"weights": (math.nan,)}, "one positive number each"),
    ([ONE], {"weights": (math.inf,)}, "one positive number each"),
    ([ONE], {"weights": (0.0,)}, "one positive number each"),
    ([ONE], {"weights": (-1.0,)}, "one positive number each"),
    ([ONE], {"weights": ((1.0, 1.0),)}, "one for each layer band"),
    ([ONE], {"weights": ((1.0, 0.0, 1.0),)}, "one positive number each"),
    ([ONE], {"norm": "longest"}, "'longest' is unknown"),
    ([ONE], {"rank": 0}, "Output rank is 0; expected 1 or more"),
    ([ONE], {"hyper_parameters": {"density": 0.5}}, "'ta' has no hyper-parameter 'density'; it takes: none"),
    ([ONE], {"operator": "ties", "hyper_parameters": {"p": 0.5}}, "it takes: density"),
    ([ONE], {"operator": "ties", "hyper_parameters": {"density": 0.0}}, "density is 0.0, expected 0.01 to 1"),
    ([ONE], {"operator": "dare", "hyper_parameters": {"p": 1.0}}, "p is 1.0, expected 0 to 0.99"),
    ([ONE], {"operator": "iso", "hyper_parameters": {"flatten": math.nan}}, "flatten is nan"),
    ([ONE], {"pruned": (Pruned(0, "z"),)}, "'z' of member 0: there is no such module"),
    ([ONE], {"pruned": (Pruned(1, "a"),)}, "member 1: there is no such module"),
    ([ONE], {"pruned": (Pruned(-1, "a"),)}, "member -1: there is no such module"),
    ([ONE], {"pruned": (Pruned(0, "a", 2),)}, "component 2 of 'a': its update has rank 2"),
    ([ONE], {"pruned": tuple(Pruned(0, name) for name in SHAPES)}, "leaves nothing of a member"),
    ([ONE, tiny.random_update(0, 2, {"a": (3, 4)})], {}, "one base model only"),
    ([holding(math.nan)], {}, "Member 0, module 'm': the factors hold NaN or infinite"),
    ([holding(1.0), holding(-math.inf)], {}, "Member 1, module 'm': the factors hold NaN or infinite"),
    ([EMPTY], {}, "rank 0 of a .* expected 1 to 4"),
    ([TOO_WIDE], {}, "rank 6 of a .* expected 1 to 5"),
    ([LoraUpdate({"m": LoraFactor(B=torch.ones(5, 2), A=torch.ones(1, 4))})], {}, r"expected \(d_out, r\)"),
    ([ONE, ONE], {"operator": "concat", "rank": 1}, "needs a rank over 1 to keep everything"),
]


@pytest.mark.parametrize(("updates", "arguments", "message"), REFUSALS)
def test_misuse_is_refused(updates: list[LoraUpdate], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MergeError, match=message):
        merge(updates, Recipe(**{"operator": "ta", "rank": 4} | arguments))


@operators
def test_results_that_float32_cannot_hold_are_refused(operator: str) -> None:
    huge = LoraUpdate({"m": LoraFactor(B=torch.full((20, 1), 3e38), A=torch.full((1, 12), 3e38))})
    with pytest.raises(MergeError, match=f"Module 'm' by {operator}: the result is too large for float32"):
        merged_by(replace(neutral(operator), rank=4), [huge])


def test_a_norm_rule_that_overflows_is_refused() -> None:
    large = LoraUpdate({"m": LoraFactor(B=torch.full((20, 1), 1e38), A=torch.full((1, 12), 1e38))})
    with pytest.raises(MergeError, match="norm rule 'mean_source' scales the result by"):
        merge([large, scaled(large, -0.99)], Recipe("ta", norm="mean_source", rank=4))


WITH_DATA = [key for key, row in OPERATORS.items() if row.needs]
CALIBRATION = random_calibration(0, SHAPES)
OTHER_BASE = random_calibration(0, {name: (d_out + 1, d_in) for name, (d_out, d_in) in SHAPES.items()})
DATA_REFUSALS: list[tuple[list[Calibration] | None, str]] = [
    (None, "needs one calibration a member .* got 0"),
    ([CALIBRATION], "needs one calibration a member .* got 1"),
    ([CALIBRATION, random_calibration(0, {"a": SHAPES["a"]})], "calibration of member 1 says nothing of module 'b'"),
    ([CALIBRATION, OTHER_BASE], "calibration of member 1 is for another 'a'"),
    ([with_module(CALIBRATION, "a", floor_in=math.nan), CALIBRATION], "calibration of member 0 holds NaN"),
    ([with_module(CALIBRATION, "a", f_out=torch.full((20,), math.inf)), CALIBRATION], "member 0 holds NaN"),
]


def test_a_rule_whose_decomposition_fails_is_refused_by_the_module_s_name() -> None:
    def singular(members: Members) -> Tensor:
        return torch.linalg.inv(0 * members.cores[0] @ members.cores[0].T)

    operator = replace(OPERATORS["ta"], rule=singular)
    with pytest.raises(MergeError, match=r"Module 'a' by ta: .*singular.*; merge by another operator"):
        merge_with(operator, bank(0), Recipe("ta"), None)


def test_a_decomposition_that_fails_while_pruning_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.linalg.LinAlgError("svd did not converge")

    monkeypatch.setattr(torch.linalg, "svd", fail)
    with pytest.raises(MergeError, match="Pruning: svd did not converge; merge by another operator"):
        merge(bank(0), Recipe("ta", pruned=(Pruned(0, "a", 0),)))


@pytest.mark.parametrize("operator", WITH_DATA)
@pytest.mark.parametrize(("calibrations", "message"), DATA_REFUSALS)
def test_data_that_does_not_fit_is_refused(operator: str, calibrations: list[Calibration] | None, message: str) -> None:
    with pytest.raises(MergeError, match=message):
        merge([ONE, ONE], Recipe(operator), calibrations)


def test_operators_without_needs_ignore_calibrations() -> None:
    updates = bank(0)
    assert_same(merge(updates, Recipe("ta"), []).update, dense(merge(updates, Recipe("ta")).update))


PEAK = Path("/proc/self/clear_refs")


@pytest.mark.skipif(not PEAK.exists(), reason="the kernel does not say how much memory a process ever held")
@pytest.mark.parametrize("operator", ["ta", "ctm", "knots_ties", "regmean"])
def test_the_peak_of_memory_is_far_under_one_dense_update(operator: str) -> None:
    shapes = {"m": (8192, 8192)}
    updates = [tiny.random_update(seed, 8, shapes) for seed in range(3)]
    calibrations = [random_calibration(seed, shapes, 8) for seed in range(3)]
    PEAK.write_text("5")  # the peak is from now on
    before = _memory("VmHWM")
    merged_by(Recipe(operator), updates, calibrations)
    assert _memory("VmHWM") - before < 8192 * 8192 * 4 / 2  # half of float32


def _memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])
