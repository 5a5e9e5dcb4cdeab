"""Rules serve what they say of groups whose numbers are known, and are worth what was measured."""

from __future__ import annotations

import math

import pytest

from probe.evaluation.judged import Judgements
from probe.evaluation.policy import (
    Served,
    always,
    bounded,
    clairvoyant,
    forced,
    groups_of,
    hoped,
    serve,
    verified,
)
from probe.evaluation.served import Plan, area, worst_lead, worst_lead_at_equal_cost
from tests.probe.evaluation.small import judged, judgements

AB, CD = ("a", "b"), ("c", "d")
GOOD = judged(AB, (0.95, 0.9), (1.0, 0.9), radius=0.02)
UNSURE = judged(AB, (0.7, 0.9), (0.9, 0.9), radius=0.2, operator="mean")
BAD = judged(CD, (0.5, 0.9), (0.6, 0.9), radius=0.02)


def test_the_bound_serves_the_best_recipe_that_passes() -> None:
    better = judged(AB, (0.9, 0.9), (1.0, 1.0), radius=0.02, operator="ties")
    assert bounded()([UNSURE, GOOD, better]) is better
    assert bounded()([UNSURE]) is None


def test_what_is_likely_enough_to_pass_is_proposed() -> None:
    likely = judged(AB, (0.7, 0.9), (0.8, 0.9), radius=0.2, probability=0.4)
    assert hoped()([likely]) is likely, "0.4 x (0.5 - 0.15 - 0.1) is worth a measurement"
    assert hoped()([judged(AB, (0.7, 0.9), (0.8, 0.9), radius=0.2, probability=0.1)]) is None
    assert hoped()([likely, GOOD]) is GOOD


def test_a_score_that_does_not_beat_routing_routes() -> None:
    # Worked: 1.9 - lambda against 2 - 2 lambda: merged from lambda = 0.1 on.
    assert bounded(lambda_cost=0.09)([GOOD]) is None
    assert bounded(lambda_cost=0.11)([GOOD]) is GOOD


def test_more_than_all_is_worth_no_more_than_all() -> None:
    transfer = judged(AB, (1.4, 0.9), (1.4, 0.86), radius=0.0, operator="ties")
    assert bounded()([GOOD, transfer]) is GOOD


def test_forced_and_fixed_merges_ask_no_bound() -> None:
    weighted = judged(CD, (1.0, 1.0), (1.0, 1.0), weights=(1.0, 0.5))
    assert forced([BAD, weighted]) is BAD
    assert always("mean")([GOOD, UNSURE]) is UNSURE
    assert always("ties")([GOOD, UNSURE]) is None


def test_another_recipe_is_served_where_the_plain_one_fails() -> None:
    weighted = judged(CD, (0.9, 0.9), (0.9, 0.95), weights=(1.0, 0.5))
    (served,) = serve(groups_of(judgements(BAD, weighted)), bounded())
    assert (served.chosen, served.action) == (weighted, "reweight")
    assert Served(CD, None).action == "route"


def test_who_knows_the_labels_picks_what_was_measured() -> None:
    assert clairvoyant()([UNSURE, GOOD]) is GOOD
    assert clairvoyant()([UNSURE]) is None


def test_groups_count_only_recipes_of_which_every_member_was_measured() -> None:
    half = judged(AB, (0.9, None), (1.0, 1.0), operator="ties")
    groups = groups_of(judgements(GOOD, half, BAD))
    assert groups == {AB: (GOOD,), CD: (BAD,)}


def test_what_is_served_is_worth_what_was_measured_and_separate_is_worth_one() -> None:
    merged, routed = Served(AB, GOOD), Served(CD, None)
    assert (merged.average, merged.worst, merged.modules_an_adapter, merged.is_separate) == (0.925, 0.9, 0.5, 0.0)
    assert (routed.average, routed.worst, routed.modules_an_adapter, routed.is_separate) == (1.0, 1.0, 1.0, 1.0)
    assert verified([Served(CD, BAD), merged]) == (routed, merged)


@pytest.fixture
def bank() -> Judgements:
    """Return ten pairs: five keep all, five keep half of one side; forecasts tell them apart."""
    good = [judged((f"g{k}", f"h{k}"), (1.0, 1.0), (1.0, 1.0), radius=0.1) for k in range(5)]
    bad = [judged((f"i{k}", f"j{k}"), (0.5, 1.0), (0.5, 1.0), radius=0.1) for k in range(5)]
    return judgements(*good, *bad)


def test_plans_are_compared_at_equal_cost(bank: Judgements) -> None:
    groups = groups_of(bank)
    policy, fixed = Plan(serve(groups, bounded())), Plan(serve(groups, always("ta")))
    assert policy.num_merged == 5
    assert (policy.worst.value, fixed.worst.value) == (1.0, 0.75)
    assert worst_lead(policy, fixed).value == pytest.approx(0.25)
    # Half of the groups, whichever they are, lose a quarter of their worst: 0.875.
    assert worst_lead_at_equal_cost(policy, [fixed]).value == pytest.approx(0.125)


def test_the_area_is_that_under_straight_lines(bank: Judgements) -> None:
    groups = groups_of(bank)
    everything, nothing = Plan(serve(groups, forced)), Plan(serve(groups, lambda _: None))
    policy = Plan(serve(groups, bounded()))
    # Mean Ret 0.875 where all are merged, 1 where all are separate.
    assert area([everything, nothing]).value == pytest.approx(0.9375)
    assert area([nothing, policy, everything]).value == pytest.approx((0.9375 + 1.0) / 2)
    assert math.isclose(area([everything, everything, nothing]).value, 0.9375)
