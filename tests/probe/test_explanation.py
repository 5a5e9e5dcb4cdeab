import dataclasses

import pytest

from probe.explanation import MECHANISMS, Finding, explain, layers_in_words
from probe.factors import LoraFactor, LoraUpdate, scaled
from probe.profiles import CrossTask, JointLoss, Shift, profile_of
from probe.signals import Pair
from tests import tiny
from tests.probe.calibrations import random_calibration

SHAPES = {f"model.layers.{n}.self_attn.{m}": (60, 50) for n in range(6) for m in ("q_proj", "v_proj")}

LOSS = JointLoss(of_base=3.0, of_own=1.0, of_sum=1.2, of_mean=1.1, num_rows=4)


def finding(pair: Pair, mechanism: str) -> Finding:
    return next(one for one in explain(pair) if one.mechanism == mechanism)


def pair_of(first: LoraUpdate, second: LoraUpdate, cross_task: CrossTask | None = None) -> Pair:
    calibrations = [random_calibration(seed, SHAPES, num_layers=6) for seed in (0, 1)]
    profiles = [profile_of(u, 6, calibration=c) for u, c in zip((first, second), calibrations, strict=True)]
    return Pair(*profiles, cross_task)


UPDATE, OTHER = tiny.random_update(0, 4, SHAPES), tiny.random_update(1, 4, SHAPES)


def with_layers(layers: set[int], inside: LoraUpdate) -> LoraUpdate:
    """Return `OTHER`, with the factors of `inside` in some layers."""
    chosen = {n for n in SHAPES if int(n.split(".")[2]) in layers}
    return LoraUpdate({n: inside.factors[n] if n in chosen else OTHER.factors[n] for n in SHAPES})


def test_opposite_updates_in_two_layers_are_destructive_addition_there() -> None:
    found = finding(pair_of(UPDATE, with_layers({2, 3}, scaled(UPDATE, -1.0))), "destructive addition")
    assert found.is_conflict
    assert (found.layers, found.kinds) == ((2, 3), ("q", "v"))
    assert found.value == pytest.approx(-1.0)
    assert 0.2 < found.share < 0.5
    assert found.sentence.startswith("Destructive addition in layers 2-3 (")


def test_equal_updates_are_over_amplified_and_collide_on_both_sides() -> None:
    found = {one.mechanism for one in explain(pair_of(UPDATE, UPDATE)) if one.is_conflict}
    assert found >= {"over-amplification", "subspace collision (inputs)", "subspace collision (outputs)"}
    assert "sign conflict" not in found
    assert "sign conflict" in {o.mechanism for o in explain(pair_of(UPDATE, scaled(UPDATE, -1.0))) if o.is_conflict}


def test_a_shared_start_of_a_collides_on_the_input_side_only() -> None:
    shared = LoraUpdate({n: LoraFactor(B=OTHER.factors[n].B, A=UPDATE.factors[n].A) for n in SHAPES})
    found = {one.mechanism for one in explain(pair_of(UPDATE, shared)) if one.is_conflict}
    assert "subspace collision (inputs)" in found
    assert "subspace collision (outputs)" not in found


def test_drift_is_directional_and_by_layer() -> None:
    shift = Shift(
        of_base=dict.fromkeys(range(6), 0.1), of_own={n: 0.9 if n == 5 else 0.1 for n in range(6)}, num_rows=4
    )
    found = finding(pair_of(UPDATE, OTHER, CrossTask(shift, LOSS)), "activation drift")
    assert found.is_conflict
    assert found.layers == (5,)
    assert "90%" in found.sentence


@pytest.mark.parametrize(("of_sum", "is_conflict"), [(1.2, False), (2.0, True)])
def test_answers_that_are_lost_beside_the_other_are_a_conflict(of_sum: float, is_conflict: bool) -> None:
    cross_task = CrossTask(Shift({0: 0.1}, {0: 0.1}, 4), dataclasses.replace(LOSS, of_sum=of_sum))
    found = finding(pair_of(UPDATE, OTHER, cross_task), "lost answers")
    assert found.is_conflict == is_conflict
    assert found.value == pytest.approx((3.0 - of_sum) / 2)


def test_unrelated_updates_show_no_geometric_conflict() -> None:
    geometric = [one for one in explain(pair_of(UPDATE, OTHER)) if one.signal in ("cosine", "overlap_in")]
    assert len(geometric) == 3
    assert all(not one.is_conflict and "nowhere past" in one.sentence for one in geometric)


def test_what_was_not_measured_is_said() -> None:
    pair = Pair(profile_of(UPDATE), profile_of(OTHER))
    for mechanism in ("Fisher-direction collision", "activation drift", "lost answers"):
        found = finding(pair, mechanism)
        assert found.value is None
        assert found.missing is not None
        assert "not measured" in found.sentence


def test_conflicts_come_first_and_every_mechanism_once() -> None:
    findings = explain(pair_of(UPDATE, with_layers({0}, UPDATE)))
    assert sorted(one.mechanism for one in findings) == sorted(mechanism.name for mechanism in MECHANISMS)
    flags = [one.is_conflict for one in findings]
    assert flags == sorted(flags, reverse=True)
    assert all(dataclasses.is_dataclass(one) for one in findings)


@pytest.mark.parametrize(
    ("layers", "words"),
    [([3], "layer 3"), ([4, 2, 3], "layers 2-4"), ([1, 2, 5], "layers 1-2 and 5"), ([0, 2, 4], "layers 0, 2 and 4")],
)
def test_layers_are_said_as_a_person_would(layers: list[int], words: str) -> None:
    assert layers_in_words(layers) == words
