# ruff: noqa: N806 - B, A and the like are what every LoRA paper calls these matrices
import math
from collections.abc import Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.factors import LoraFactor, LoraUpdate, scaled
from probe.signals import SIGNALS, pair_signals, pairwise, summarise
from probe.signals.geometry import module_cosines
from tests import tiny

SHAPES = {"a": (20, 12), "b": (9, 16), "c": (12, 12)}
signals = pytest.mark.parametrize("signal", SIGNALS)
seeds = st.integers(0, 10_000)
rank_patterns = st.dictionaries(st.sampled_from(sorted(SHAPES)), st.integers(1, 5), min_size=2)


def measure(signal: str, first: LoraUpdate, second: LoraUpdate) -> float:
    return SIGNALS[signal].function(summarise(first), summarise(second))


def regauged(update: LoraUpdate) -> LoraUpdate:
    factors = {}
    for name, factor in update.factors.items():
        G = torch.randn(factor.rank, factor.rank, generator=torch.Generator().manual_seed(1)).double()
        G = G + 3 * torch.eye(factor.rank)
        factors[name] = LoraFactor(B=factor.B.double() @ G, A=torch.linalg.solve(G, factor.A.double()))
    return LoraUpdate(factors)


@signals
@settings(max_examples=15, deadline=None)
@given(seed=seeds, one=rank_patterns, other=rank_patterns)
def test_signals_are_symmetric_bounded_and_gauge_invariant(
    signal: str, seed: int, one: Mapping[str, int], other: Mapping[str, int]
) -> None:
    first, second = tiny.random_update(seed, one, SHAPES), tiny.random_update(seed + 1, other, SHAPES)
    value, (low, high) = measure(signal, first, second), SIGNALS[signal].bounds
    assert low - 1e-9 <= value <= high + 1e-9
    assert measure(signal, second, first) == pytest.approx(value, abs=1e-9)
    assert measure(signal, regauged(first), regauged(second)) == pytest.approx(value, abs=1e-6)


@signals
def test_a_zero_update_is_not_a_number_to_rely_on(signal: str) -> None:
    update = tiny.random_update(0, 3, SHAPES)
    value = measure(signal, update, scaled(update, 0.0))
    assert value == 0 if signal == "norm_ratio" else math.isnan(value)
    assert math.isnan(measure(signal, scaled(update, 0.0), scaled(update, 0.0)))


@signals
def test_rank_one_and_bfloat16_are_measured(signal: str) -> None:
    first, second = tiny.random_update(0, 1, SHAPES), tiny.random_update(1, 1, SHAPES)
    rounded = LoraUpdate(
        {n: LoraFactor(f.B.bfloat16().float(), f.A.bfloat16().float()) for n, f in first.factors.items()}
    )
    assert measure(signal, rounded, second) == pytest.approx(measure(signal, first, second), abs=1e-2)


def test_an_update_and_itself() -> None:
    update = tiny.random_update(0, {"a": 3, "c": 3}, SHAPES)
    own = pair_signals(summarise(update), summarise(update))
    assert (own.cosine, own.norm_ratio) == pytest.approx((1, 1))
    scaled_back = pair_signals(summarise(update), summarise(scaled(update, -0.25)))
    assert (scaled_back.cosine, scaled_back.norm_ratio) == pytest.approx((-1, 0.25))
    # Chance level r/d is 3/20 or 3/12 in the output of a and c, and 3/12 in both inputs.
    assert own.overlap_in == pytest.approx(1 - 3 / 12)
    assert 1 - 3 / 12 < own.overlap_out < 1 - 3 / 20


def test_cosines_are_those_of_dense_updates() -> None:
    first, second = tiny.random_update(0, 3, SHAPES), tiny.random_update(1, {"a": 2, "b": 5}, SHAPES)
    rows = [{n: f.B.double() @ f.A.double() for n, f in update.factors.items()} for update in (first, second)]
    inner = {name: float((rows[0][name] * rows[1][name]).sum()) for name in rows[1]}
    norms = [math.sqrt(sum(float(value.square().sum()) for value in row.values())) for row in rows]
    assert measure("cosine", first, second) == pytest.approx(sum(inner.values()) / math.prod(norms))
    cosines = module_cosines(summarise(first), summarise(second))
    assert cosines == pytest.approx({n: v / float(rows[0][n].norm() * rows[1][n].norm()) for n, v in inner.items()})


def test_overlap_is_zero_by_chance_and_high_for_a_shared_seed() -> None:
    shapes = {"m": (200, 100)}
    updates = [tiny.random_update(seed, 8, shapes) for seed in range(20)]
    by_chance = [pair.overlap_in for pair in pairwise({str(i): u for i, u in enumerate(updates)}).values()]
    assert sum(by_chance) / len(by_chance) == pytest.approx(0, abs=0.005)
    shared = LoraUpdate({"m": LoraFactor(B=updates[1].factors["m"].B, A=updates[0].factors["m"].A)})
    assert measure("overlap_in", updates[0], shared) == pytest.approx(1 - 8 / 100)
    assert measure("overlap_out", updates[0], shared) < 0.1


def test_updates_without_a_common_module_do_not_overlap() -> None:
    first, second = tiny.random_update(0, {"a": 2}, SHAPES), tiny.random_update(1, {"b": 2}, SHAPES)
    pair = pair_signals(summarise(first), summarise(second))
    assert pair.cosine == 0
    assert math.isnan(pair.overlap_above_chance)


def test_pairwise_measures_every_pair_once() -> None:
    bank = {key: tiny.random_update(seed, 2, SHAPES) for seed, key in enumerate("xyz")}
    pairs = pairwise(bank)
    assert pairs.keys() == {frozenset("xy"), frozenset("xz"), frozenset("yz")}
    assert pairs[frozenset("xz")] == pair_signals(summarise(bank["x"]), summarise(bank["z"]))
