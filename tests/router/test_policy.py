"""Algorithm 1 for one set: an argmax over merge, reweight and prune; route where nothing is feasible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.bank_state import Settings
from router.forecasts import ConflictPart
from router.policy import MAX_PRUNED_PARTS, REACH, Option, Policy, best_action
from router.recipes import action_of, without_part
from router.records import Action, Recipe
from tests.router.planted import Kept, PlantedForecasts, everyone

PAIR = frozenset("ab")
RANKS = dict.fromkeys("abcde", 8)
UNIFORM = dict.fromkeys("abcde", 1.0)


def options(kept: Kept, members: frozenset[str] = PAIR, **forecasts: object) -> list[Option]:
    """Return all that Algorithm 1 compares for one set."""
    policy = Policy(Settings(), PlantedForecasts(kept, **forecasts), RANKS)  # type: ignore[arg-type]
    merged = policy.merged([members])
    return [*merged[members], *policy.reworked(merged, by_every_operator=True).get(members, ())]


def chosen(kept: Kept, members: frozenset[str] = PAIR, **forecasts: object) -> Option | None:
    return best_action(options(kept, members, **forecasts), UNIFORM, Settings())


def test_two_at_nine_tenths_are_merged() -> None:
    found = chosen(everyone(0.9), radius=0.0)
    assert found is not None
    assert action_of(found.recipe) is Action.MERGE


def test_at_nine_and_eight_tenths_they_are_routed_since_each_must_pass() -> None:
    assert chosen(lambda _: {"a": 0.9, "b": 0.8}, radius=0.0) is None


def test_five_at_086_are_merged() -> None:
    found = chosen(everyone(0.86), frozenset("abcde"), radius=0.0)
    assert found is not None
    assert action_of(found.recipe) is Action.MERGE


def test_the_bound_decides_and_not_the_point_forecast() -> None:
    assert chosen(everyone(0.9), radius=0.06) is None
    assert chosen(everyone(0.9), radius=float("inf")) is None


def test_the_best_operator_wins() -> None:
    kept = {"mean": 0.88, "ta": 0.95}
    found = chosen(lambda recipe: dict.fromkeys(recipe.members, kept[recipe.operator]))
    assert found is not None
    assert found.recipe.operator == "ta"


def lighter(recipe: Recipe) -> Mapping[str, float]:
    """Plant: b destroys a, less so at half its weight, where it expresses a little less itself."""
    weight_a, weight_b = recipe.weights
    return {"a": 0.7 if weight_b == 1 else 0.95, "b": {1: 1.0, 0.5: 0.93, 0.25: 0.6}[weight_b] - (weight_a != 1)}


def test_other_weights_are_chosen_where_they_save_a_member() -> None:
    found = chosen(lighter)
    assert found is not None
    assert action_of(found.recipe) is Action.REWEIGHT
    assert found.recipe.weights == (1.0, 0.5)


def test_it_is_an_argmax_and_no_cascade() -> None:
    """A feasible plain merge loses against other weights that keep more."""
    found = chosen(lambda recipe: dict.fromkeys("ab", 0.89 if recipe.weights == (1.0, 1.0) else 0.97))
    assert found is not None
    assert action_of(found.recipe) is Action.REWEIGHT


def test_of_equals_the_plain_merge_wins() -> None:
    found = chosen(everyone(1.0))
    assert found is not None
    assert found.recipe.weights == (1.0, 1.0)
    assert (found.recipe.operator, found.recipe.norm) == Settings().recipes[0]


HOT = (ConflictPart("b", ("m3",), 0.5), ConflictPart("b", ("m2",), 0.3), ConflictPart("a", ("m3",), 0.1))


def pruned_keeps(needed: int) -> Kept:
    """Plant: the members pass once the first `needed` hot parts are gone."""
    return lambda recipe: dict.fromkeys("ab", 0.75 if len(recipe.pruned) < needed else 0.95)


@pytest.mark.parametrize("needed", [1, 2, 3])
def test_parts_are_dropped_greedily_until_the_worst_member_passes(needed: int) -> None:
    found = chosen(pruned_keeps(needed), parts=HOT)
    assert found is not None
    assert action_of(found.recipe) is Action.PRUNE
    expected = replace(found.recipe, pruned=())
    for part in HOT[:needed]:
        expected = without_part(expected, part)
    assert found.recipe == expected


def test_pruning_takes_a_bounded_number_of_parts() -> None:
    many = tuple(ConflictPart("a", (f"m{number}",), 0.1) for number in range(20))
    counts = [len(option.recipe.pruned) for option in options(everyone(0.7), parts=many)]
    assert max(counts) == MAX_PRUNED_PARTS


def test_nothing_is_pruned_where_a_merge_passes() -> None:
    assert not any(option.recipe.pruned for option in options(everyone(0.95), parts=HOT))


def test_without_a_bound_pruning_ends_where_the_point_forecast_passes() -> None:
    counts = [len(o.recipe.pruned) for o in options(pruned_keeps(2), parts=HOT, radius=float("inf"))]
    assert max(counts) == 2


def test_a_broad_conflict_is_routed_without_asking_further() -> None:
    hopeless = everyone(Settings().target_retention - REACH - 0.01)
    assert {action_of(option.recipe) for option in options(hopeless, parts=HOT)} == {Action.MERGE}


def test_what_is_not_forecast_is_no_option() -> None:
    assert options(lambda recipe: None if recipe.operator == "ta" else dict.fromkeys("ab", 0.9))
    assert options(lambda _: None) == []


def test_routing_beats_a_feasible_merge_that_costs_more_than_it_saves() -> None:
    found = options(everyone(0.9), radius=0.0)
    assert best_action(found, {"a": 6.0, "b": 6.0}, Settings()) is None


def test_only_the_closest_operator_is_repaired_where_time_is_short() -> None:
    kept = {"mean": 0.75, "ta": 0.7}
    policy = Policy(
        Settings(), PlantedForecasts(lambda recipe: dict.fromkeys(recipe.members, kept[recipe.operator])), RANKS
    )
    repaired = policy.reworked(policy.merged([PAIR]), by_every_operator=False)[PAIR]
    assert {option.recipe.operator for option in repaired} == {"mean"}


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.floats(0.5, 1.1), min_size=8, max_size=8), radius=st.floats(0.0, 0.2))
def test_never_worse_than_any_operator_under_it(values: list[float], radius: float) -> None:
    """Section 5.5: the policy's choice scores at least as much as every feasible recipe, and as routing."""
    rounds = iter(range(1_000_000))
    seen: dict[Recipe, float] = {}

    def kept(recipe: Recipe) -> Mapping[str, float]:
        value = seen.setdefault(recipe, values[next(rounds) % len(values)])
        return dict.fromkeys(recipe.members, value)

    found = options(kept, radius=radius, parts=HOT)
    best = best_action(found, UNIFORM, Settings())
    feasible = [option for option in found if option.is_feasible(0.85)]
    gain = 0.0 if best is None else 0.5 - 2 * (1 - min(1.0, best.worst))
    assert gain >= max((0.5 - 2 * (1 - min(1.0, option.worst)) for option in feasible), default=0.0)
    assert gain >= 0.0
