"""Fisher-weighted damage of one update to another's task, and the layers in which most of it lies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from probe.damage import fisher_damage, layers_of_most
from probe.factors import LoraFactor, LoraUpdate
from probe.layers import place_of
from probe.profiles import profile_of
from probe.signals import Pair
from tests import tiny
from tests.probe.calibrations import random_calibration


@pytest.fixture(scope="module")
def pair() -> Pair:
    first, second = (tiny.random_update(seed) for seed in (0, 1))
    calibration = random_calibration(1, tiny.SHAPES)
    return Pair(profile_of(first, 2), profile_of(second, 2, None, calibration))


def test_it_is_the_dense_fisher_weighted_square_over_that_of_the_own_update(pair: Pair) -> None:
    assert pair.second.calibration is not None
    dense = {}
    for who, profile in (("first", pair.first), ("second", pair.second)):
        dense[who] = [0.0] * tiny.NUM_LAYERS
        for name, module in profile.modules.items():
            fisher = pair.second.calibration.modules[name]
            delta = (module.U * module.s) @ module.V.T
            proxy = fisher.f_out[:, None] * fisher.f_in[None, :] / fisher.fisher_total
            dense[who][place_of(name).layer or 0] += float((delta.square() * proxy).double().sum())
    own = sum(dense["second"])
    assert fisher_damage(pair) == pytest.approx([value / own for value in dense["first"]], rel=1e-4)


def test_an_adapter_weighs_one_against_itself(pair: Pair) -> None:
    assert fisher_damage(Pair(pair.second, pair.second)).sum() == pytest.approx(1.0)


def test_twice_the_update_is_four_times_the_damage(pair: Pair) -> None:
    update = tiny.random_update(0)
    twice = LoraUpdate({name: LoraFactor(B=2 * f.B, A=f.A) for name, f in update.factors.items()})
    found = fisher_damage(Pair(profile_of(twice, 2), pair.second))
    assert found == pytest.approx(4 * fisher_damage(pair), rel=1e-4)


def test_without_a_calibration_nothing_is_known(pair: Pair) -> None:
    assert len(fisher_damage(Pair(pair.first, replace(pair.second, calibration=None)))) == 0


@pytest.mark.parametrize(
    ("values", "layers"),
    [
        ((0, 0, 0, 9, 1, 0, 0, 0), (3,)),
        ((0, 1, 4, 5, 2, 1, 0, 0), (2, 3)),
        ((1, 1, 1, 1, 1, 1, 1, 1), ()),
        ((0, 0, 0), ()),
        ((), ()),
    ],
)
def test_most_of_the_damage_lies_in_the_shortest_run_that_holds_half(
    values: tuple[float, ...], layers: tuple[int, ...]
) -> None:
    assert layers_of_most(np.array(values, dtype=np.float64)) == layers
