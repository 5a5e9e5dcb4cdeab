# ruff: noqa: N806 - B, A and the like are what every LoRA paper calls these matrices
"""The contract of every signal: bounds, symmetry, gauge invariance, reasons; then each against a dense oracle."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from probe.factors import LoraFactor, LoraUpdate, scaled
from probe.profiles import AdapterProfile, CrossTask, JointLoss, Metadata, Shift, effective_rank, profile_of
from probe.signals import (
    ADAPTER_SIGNALS,
    PAIR_SIGNALS,
    Family,
    Need,
    Pair,
    Resolution,
    measure_adapter,
    measure_pair,
)
from probe.signals.dynamics import slope, variance
from probe.signals.summary import KEYS, summarise, weighted_mean
from tests import tiny
from tests.probe.calibrations import random_calibration

SHAPES = {
    "layers.0.q_proj": (20, 12),
    "layers.1.v_proj": (9, 16),
    "layers.1.mlp.up_proj": (12, 12),
}
FIRST, SECOND, THIRD = SHAPES
adapter_signals = pytest.mark.parametrize("signal", ADAPTER_SIGNALS)
pair_signals = pytest.mark.parametrize("signal", PAIR_SIGNALS)
seeds = st.integers(0, 10_000)
rank_patterns = st.dictionaries(st.sampled_from(sorted(SHAPES)), st.integers(1, 5), min_size=2)
METADATA = Metadata("math", 500, 3.5, 0.1, 8, 2.0, 1e-3, 125, -0.01)


def profile(update: LoraUpdate, seed: int = 0, metadata: Metadata = METADATA) -> AdapterProfile:
    return profile_of(update, 2, metadata, random_calibration(seed, SHAPES))


def pair_of(first: LoraUpdate, second: LoraUpdate, seed: int = 0) -> Pair:
    crossed = CrossTask(Shift({0: 0.1, 1: 0.3}, {0: 0.5, 1: 2.0}, 4), JointLoss(3.0, 1.0, 1.5, 2.0, 4))
    return Pair(profile(first, seed), profile(second, seed + 1, dataclasses.replace(METADATA, domain="code")), crossed)


def swapped(pair: Pair) -> Pair:
    return Pair(pair.second, pair.first, pair.cross_task)


def measure(signal: str, first: LoraUpdate, second: LoraUpdate) -> Mapping[str, float]:
    return measure_pair(PAIR_SIGNALS[signal], pair_of(first, second)).values


def regauged(update: LoraUpdate) -> LoraUpdate:
    factors = {}
    for name, factor in update.factors.items():
        G = torch.randn(factor.rank, factor.rank, generator=torch.Generator().manual_seed(1)).double()
        G = G + 3 * torch.eye(factor.rank)
        factors[name] = LoraFactor(B=factor.B.double() @ G, A=torch.linalg.solve(G, factor.A.double()))
    return LoraUpdate(factors)


def dense(update: LoraUpdate) -> dict[str, Tensor]:
    return {name: factor.B.double() @ factor.A.double() for name, factor in update.factors.items()}


def close(seen: Mapping[str, float], expected: Mapping[str, float]) -> None:
    assert seen == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pair_signals
@settings(max_examples=15, deadline=None)
@given(seed=seeds, one=rank_patterns, other=rank_patterns)
def test_pair_signals_keep_their_bounds_their_symmetry_and_forget_the_gauge(
    signal: str, seed: int, one: Mapping[str, int], other: Mapping[str, int]
) -> None:
    row = PAIR_SIGNALS[signal]
    first, second = tiny.random_update(seed, one, SHAPES), tiny.random_update(seed + 1, other, SHAPES)
    pair = pair_of(first, second, seed)
    values, (low, high) = measure_pair(row, pair).values, row.bounds
    assert all(low - 1e-6 <= value <= high + 1e-6 for value in values.values())
    if row.is_symmetric:
        close(measure_pair(row, swapped(pair)).values, values)
    close(measure_pair(row, pair_of(regauged(first), regauged(second), seed)).values, values)


@adapter_signals
@settings(max_examples=10, deadline=None)
@given(seed=seeds, ranks=rank_patterns)
def test_adapter_signals_keep_their_bounds_and_forget_the_gauge(
    signal: str, seed: int, ranks: Mapping[str, int]
) -> None:
    row, update = ADAPTER_SIGNALS[signal], tiny.random_update(seed, ranks, SHAPES)
    values, (low, high) = measure_adapter(row, profile(update, seed)).values, row.bounds
    assert values
    assert all(low - 1e-6 <= value <= high + 1e-6 for value in values.values())
    close(measure_adapter(row, profile(regauged(update), seed)).values, values)


@pytest.mark.parametrize("signal", [key for key, row in PAIR_SIGNALS.items() if not row.is_symmetric])
def test_a_directional_signal_tells_the_two_directions_apart(signal: str) -> None:
    row = PAIR_SIGNALS[signal]
    pair = pair_of(tiny.random_update(0, 3, SHAPES), tiny.random_update(1, 5, SHAPES))
    crossed = CrossTask(Shift({0: 0.9}, {0: 0.9}, 4), JointLoss(3.0, 2.0, 2.2, 2.1, 4))
    other = dataclasses.replace(swapped(pair), cross_task=crossed)
    assert measure_pair(row, pair).values != pytest.approx(dict(measure_pair(row, other).values))


@pair_signals
def test_a_zero_update_has_no_value_and_a_reason(signal: str) -> None:
    row, update = PAIR_SIGNALS[signal], tiny.random_update(0, 3, SHAPES)
    measured = measure_pair(row, pair_of(update, scaled(update, 0.0)))
    if signal == "update_norm_ratio":
        assert measured.values == {"": 0.0}
    elif Need.WEIGHTS in row.needs:
        assert measured.values == {}
        assert measured.missing is not None
        assert "zero update" in measured.missing


@pytest.mark.parametrize("signal", [*ADAPTER_SIGNALS, *PAIR_SIGNALS])
def test_what_was_not_measured_says_what_it_needs(signal: str) -> None:
    bare = profile_of(tiny.random_update(0, 3, SHAPES))
    row = ADAPTER_SIGNALS.get(signal) or PAIR_SIGNALS[signal]
    measured = (
        measure_adapter(row, bare)
        if signal in ADAPTER_SIGNALS
        else measure_pair(PAIR_SIGNALS[signal], Pair(bare, bare))
    )
    if row.needs == {Need.WEIGHTS}:
        assert measured.missing is None
    else:
        assert measured.values == {}
        assert any(str(need) in (measured.missing or "") for need in row.needs)


@pair_signals
def test_rank_one_and_bfloat16_are_measured(signal: str) -> None:
    first, second = tiny.random_update(0, 1, SHAPES), tiny.random_update(1, 1, SHAPES)
    rounded = LoraUpdate(
        {n: LoraFactor(f.B.bfloat16().float(), f.A.bfloat16().float()) for n, f in first.factors.items()}
    )
    assert measure(signal, rounded, second) == pytest.approx(measure(signal, first, second), abs=2e-2)


def test_every_row_documents_itself_and_every_family_has_one() -> None:
    rows: list[Any] = [*ADAPTER_SIGNALS.values(), *PAIR_SIGNALS.values()]
    for row in rows:
        assert all((row.cost, row.direction, row.source, row.needs, row.function.__doc__ or row.family))
        assert row.bounds[0] < row.bounds[1]
    assert {row.family for row in rows} == set(Family)
    assert ADAPTER_SIGNALS.keys().isdisjoint(PAIR_SIGNALS)


def test_cosines_are_those_of_dense_updates() -> None:
    first, second = tiny.random_update(0, 3, SHAPES), tiny.random_update(1, {FIRST: 2, SECOND: 5}, SHAPES)
    rows = [dense(update) for update in (first, second)]
    inner = {name: float((rows[0][name] * rows[1][name]).sum()) for name in rows[1]}
    expected = {name: value / float(rows[0][name].norm() * rows[1][name].norm()) for name, value in inner.items()}
    close(measure("cosine", first, second), expected)
    close(measure("absolute_cosine", first, second), {name: abs(value) for name, value in expected.items()})
    norms = [math.sqrt(sum(float(value.square().sum()) for value in row.values())) for row in rows]
    close(measure("update_cosine", first, second), {"": sum(inner.values()) / math.prod(norms)})
    close(measure("update_norm_ratio", first, second), {"": min(norms) / max(norms)})


def test_norms_are_those_of_dense_updates() -> None:
    first, second = tiny.random_update(0, 3, SHAPES), tiny.random_update(1, 2, SHAPES)
    norms = [{name: float(value.norm()) for name, value in dense(update).items()} for update in (first, second)]
    close(
        measure("norm_ratio", first, second), {n: min(a[n] for a in norms) / max(a[n] for a in norms) for n in SHAPES}
    )
    shares = {name: norms[0][name] ** 2 / (norms[0][name] ** 2 + norms[1][name] ** 2) for name in SHAPES}
    close(measure("norm_share", first, second), shares)
    energy = measure_adapter(ADAPTER_SIGNALS["energy"], profile(first)).values
    close(energy, {name: math.log10(value) for name, value in norms[0].items()})


def test_spectra_are_those_of_dense_updates() -> None:
    update = tiny.random_update(0, 3, SHAPES)
    spectra = {name: torch.linalg.svdvals(value)[:3] for name, value in dense(update).items()}
    shares = {name: s.square() / s.square().sum() for name, s in spectra.items()}
    ranks = {name: math.exp(-float((share * share.log()).sum())) for name, share in shares.items()}
    close(measure_adapter(ADAPTER_SIGNALS["spectral_rank"], profile(update)).values, ranks)
    tops = {name: float(share[0]) for name, share in shares.items()}
    close(measure_adapter(ADAPTER_SIGNALS["top_share"], profile(update)).values, tops)
    assert effective_rank(torch.ones(4)) == pytest.approx(4)
    assert math.isnan(effective_rank(torch.zeros(4)))
    assert math.isnan(effective_rank(torch.zeros(0)))


def test_signs_conflict_as_those_of_dense_updates_in_shared_bases() -> None:
    first, second = tiny.random_update(0, 3, SHAPES), tiny.random_update(1, 2, SHAPES)
    expected = {}
    for name, one in dense(first).items():
        other = dense(second)[name]
        halves = [torch.linalg.svd(D, full_matrices=False) for D in (one, other)]
        left = torch.cat([u * s.sqrt() for u, s, _ in halves], 1)
        right = torch.cat([vh.T * s.sqrt() for _, s, vh in halves], 1)
        Q_B, Q_A = torch.linalg.svd(left)[0][:, :5], torch.linalg.svd(right)[0][:, :5]
        products = (Q_B.T @ one @ Q_A) * (Q_B.T @ other @ Q_A)
        expected[name] = float(products[products < 0].sum().abs() / products.abs().sum())
    close(measure("sign_conflict", first, second), expected)
    close(measure("sign_conflict", first, first), dict.fromkeys(SHAPES, 0.0))
    close(measure("sign_conflict", first, scaled(first, -2.0)), dict.fromkeys(SHAPES, 1.0))


def test_an_update_and_itself() -> None:
    update = tiny.random_update(0, 3, SHAPES)
    close(measure("cosine", update, scaled(update, -0.25)), dict.fromkeys(SHAPES, -1.0))
    close(measure("norm_ratio", update, scaled(update, -0.25)), dict.fromkeys(SHAPES, 0.25))
    close(measure("overlap_in", update, update), {n: 1 - 3 / d_in for n, (_, d_in) in SHAPES.items()})
    close(measure("overlap_out", update, update), {n: 1 - 3 / d_out for n, (d_out, _) in SHAPES.items()})
    close(measure("closest_in", update, update), dict.fromkeys(SHAPES, 1.0))
    close(measure("fisher_overlap", update, update), dict.fromkeys(SHAPES, 1.0))
    close(measure("fisher_load", update, scaled(update, 0.1)), dict.fromkeys(SHAPES, 2.0))


def test_principal_angles_are_scipys() -> None:
    from scipy.linalg import subspace_angles

    first, second = tiny.random_update(0, 3, SHAPES), tiny.random_update(1, 2, SHAPES)
    for signal, side in (("closest_in", lambda f: f.A.T), ("closest_out", lambda f: f.B)):
        angles = {n: subspace_angles(*(side(u.factors[n]).numpy() for u in (first, second))).min() for n in SHAPES}
        close(measure(signal, first, second), {name: math.cos(angle) for name, angle in angles.items()})


def test_overlap_is_zero_by_chance_and_high_for_a_shared_seed() -> None:
    shapes = {"m": (200, 100)}
    updates = [tiny.random_update(seed, 8, shapes) for seed in range(20)]
    profiles = [profile_of(update) for update in updates]
    row = PAIR_SIGNALS["overlap_in"]
    by_chance = [measure_pair(row, Pair(a, b)).values["m"] for a in profiles[:5] for b in profiles[5:]]
    assert sum(by_chance) / len(by_chance) == pytest.approx(0, abs=0.005)
    shared = profile_of(LoraUpdate({"m": LoraFactor(B=updates[1].factors["m"].B, A=updates[0].factors["m"].A)}))
    assert measure_pair(row, Pair(profiles[0], shared)).values["m"] == pytest.approx(1 - 8 / 100)
    assert measure_pair(PAIR_SIGNALS["overlap_out"], Pair(profiles[0], shared)).values["m"] < 0.1


def test_fisher_signals_are_those_of_the_dense_rank_one_fisher() -> None:
    first, second = tiny.random_update(0, 3, SHAPES), tiny.random_update(1, 2, SHAPES)
    pair = pair_of(first, second)
    assert pair.second.calibration is not None
    overlap, load = {}, {}
    for name, module in pair.second.calibration.modules.items():
        F = torch.outer(module.f_out, module.f_in).double() / module.f_out.double().sum()
        one, other = dense(first)[name], dense(second)[name]
        inner, own, its = (float((F * a * b).sum()) for a, b in ((one, other), (one, one), (other, other)))
        overlap[name], load[name] = abs(inner) / math.sqrt(own * its), math.log10(own / its)
    close(measure_pair(PAIR_SIGNALS["fisher_overlap"], pair).values, overlap)
    close(measure_pair(PAIR_SIGNALS["fisher_load"], pair).values, load)
    assert pair.first.calibration is not None
    own_fisher = pair.first.calibration.modules[FIRST]
    F = torch.outer(own_fisher.f_out, own_fisher.f_in).double() / own_fisher.f_out.double().sum()
    cost = measure_adapter(ADAPTER_SIGNALS["fisher_cost"], pair.first).values[FIRST]
    assert cost == pytest.approx(math.log10(float((F * dense(first)[FIRST].square()).sum())), rel=1e-4)


def test_gradients_that_oppose_each_other_are_counted() -> None:
    update = tiny.random_update(0, 2, SHAPES)
    first = profile(update)
    assert first.calibration is not None
    turned = {
        name: dataclasses.replace(module, gradient=-module.gradient if name == FIRST else module.gradient)
        for name, module in first.calibration.modules.items()
    }
    second = dataclasses.replace(first, calibration=dataclasses.replace(first.calibration, modules=turned))
    cosines = measure_pair(PAIR_SIGNALS["gradient_cosine"], Pair(first, second)).values
    close(cosines, {FIRST: -1.0, SECOND: 1.0, THIRD: 1.0})
    close(measure_pair(PAIR_SIGNALS["negative_gradients"], Pair(first, second)).values, {"": 1 / 3})


def test_summaries_are_over_all_bands_and_kinds() -> None:
    values = {"layers.0.q_proj": 1.0, "layers.1.q_proj": 2.0, "layers.5.mlp.up_proj": 6.0}
    seen = summarise(values, Resolution.MODULE, 6)
    assert tuple(seen) == KEYS[Resolution.MODULE]
    assert (seen["all", "mean"], seen["all", "max"], seen["all", "p90"]) == pytest.approx((3.0, 6.0, 5.2))
    assert (seen["lower", "mean"], seen["q", "max"], seen["mlp", "mean"]) == (1.5, 2.0, 6.0)
    assert math.isnan(seen["middle", "mean"])
    blocks = summarise({"0": 1.0, "5": 3.0}, Resolution.LAYER, 6)
    assert (blocks["all", "mean"], blocks["upper", "max"]) == (2.0, 3.0)
    assert weighted_mean({"a": 1.0, "b": 4.0}, {"a": 3.0, "b": 1.0}) == 1.75
    assert math.isnan(weighted_mean({}, {}))


def test_slopes_are_per_tenth_of_training_and_skip_what_is_unknown() -> None:
    assert slope([0.02, 0.05, 0.1], [1.0, 1.3, 1.8]) == pytest.approx(1.0)
    assert slope([0.02, 0.05, 0.1], [1.0, math.nan, 1.8]) == pytest.approx(1.0)
    assert math.isnan(slope([0.1], [1.0]))
    assert variance([1.0, 3.0, math.nan]) == 1.0
    assert math.isnan(variance([1.0]))
