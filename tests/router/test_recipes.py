"""Which recipes there are of a set."""

from __future__ import annotations

from router.bank_state import Settings
from router.forecasts import ConflictPart
from router.recipes import SHARES, action_of, plain_recipes, reweighted, without_part
from router.records import Action

RANKS = {"a": 4, "b": 16, "c": 8}
PLAIN = plain_recipes("cab", RANKS, Settings())[0]


def test_plain_recipes_are_the_settings_with_sorted_members_and_rank_for_all_of_them() -> None:
    recipes = plain_recipes("cab", RANKS, Settings(output_ranks=(8, 16, 32, 64)))
    assert [(recipe.operator, recipe.norm) for recipe in recipes] == list(Settings().recipes)
    assert {(recipe.members, recipe.weights, recipe.rank) for recipe in recipes} == {
        (("a", "b", "c"), (1.0, 1.0, 1.0), 32)
    }


def test_a_merge_has_no_more_rank_than_the_engine() -> None:
    assert plain_recipes("cab", RANKS, Settings(output_ranks=(8, 16)))[0].rank == 16
    assert plain_recipes("ac", RANKS, Settings(output_ranks=(8, 16)))[0].rank == 16, "12 are rounded up"


def test_each_member_in_turn_weighs_less() -> None:
    weights = {recipe.weights for recipe in reweighted(PLAIN)}
    assert len(weights) == len(SHARES) * 3
    assert (0.5, 1.0, 1.0) in weights
    assert (1.0, 1.0, 0.25) in weights
    assert all(sum(weight != 1.0 for weight in given) == 1 for given in weights)


def test_parts_of_members_are_left_out_and_sorted() -> None:
    upper, lower = ConflictPart("b", ("m2", "m1"), 0.7), ConflictPart("a", ("m1",), 0.2)
    pruned = without_part(without_part(PLAIN, upper), lower)
    assert [(part.member, part.module) for part in pruned.pruned] == [(0, "m1"), (1, "m1"), (1, "m2")]


def test_the_action_follows_from_the_recipe() -> None:
    part = ConflictPart("a", ("m",), 1.0)
    assert action_of(PLAIN) is Action.MERGE
    assert action_of(reweighted(PLAIN)[0]) is Action.REWEIGHT
    assert action_of(without_part(PLAIN, part)) is Action.PRUNE
