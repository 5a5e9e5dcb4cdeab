"""What is measured where a bound does not pass, and after a measurement failed."""

from __future__ import annotations

from dataclasses import replace

from router.bank_state import Settings
from router.recipes import plain_recipes
from router.records import MemberResult, Recipe, Verdict
from tests.router.banks import bank_of, groups
from tests.router.planning import measured, plan, planner, reasons_of, settle
from tests.router.planted import PlantedForecasts, by_pairs, everyone


def test_groups_of_which_only_the_point_forecast_passes_are_explored() -> None:
    _, trials = plan(bank_of("ab"), everyone(0.95), radius=0.2)
    assert [(trial.adapters, trial.explores) for trial in trials] == [(("a", "b"), True)]
    assert plan(bank_of("ab"), everyone(0.95), Settings(max_exploration=0), radius=0.2)[1] == ()


def test_an_infinite_bound_costs_work_and_no_savings() -> None:
    by = planner(everyone(0.95), radius=float("inf"))
    decisions, trials = by.plan(bank_of("ab"))
    assert trials[0].lower_bounds == (None, None)
    assert "(no bound yet)" in reasons_of(decisions)["a"]
    bank, _ = settle(bank_of("ab"), by, lambda recipe: dict.fromkeys(recipe.members, 0.95))
    decisions, _ = by.plan(bank)
    assert groups(decisions) == {frozenset("ab")}
    assert decisions[0].lower_bound is None


def test_bounded_groups_come_before_explored_ones_and_each_kind_is_limited() -> None:
    """ab passes by its bound, all other pairs by their point forecast only."""
    kept = by_pairs({"ab": 0.03}, default=0.14)
    _, trials = plan(bank_of("abcdef"), kept, Settings(max_trials=9, max_exploration=1, max_group_size=2))
    assert [trial.explores for trial in trials] == [False, True]
    assert trials[0].adapters == ("a", "b")
    assert len(plan(bank_of("abcdef"), kept, Settings(max_trials=1, max_group_size=2))[1]) == 1


def test_a_long_shot_is_not_explored() -> None:
    assert not plan(bank_of("ab"), everyone(0.95), radius=0.2, safe_probability=0.05)[1]


def test_what_a_group_was_measured_to_lose_is_not_promised_again() -> None:
    """All recipes were predicted to keep 0.95; the bound of one was measured as 0.84, so no other is worth a look."""
    by = planner(everyone(0.95))
    [trial] = by.plan(bank_of("ab"))[1]
    failed = measured(trial.recipes[0], 0.86)
    assert not failed.passed
    assert by.plan(bank_of("ab", verdicts=(failed,)))[1] == ()


def test_another_recipe_that_promises_more_than_was_missed_is_tried() -> None:
    first, *others = plain_recipes(["r-a", "r-b"], {"r-a": 8, "r-b": 8}, Settings())
    failed = bank_of("ab", verdicts=(measured(first, 0.86),))
    by = planner(lambda recipe: dict.fromkeys(recipe.members, 0.99 if recipe == others[1] else 0.95))
    [again] = by.plan(failed)[1]
    assert again.recipes == (others[1],), "0.99 less 0.11 passes, 0.95 less 0.11 does not"


def test_verdicts_on_adapters_that_left_are_not_asked_about() -> None:
    gone = measured(plain_recipes(["r-a", "r-z"], {"r-a": 8, "r-z": 8}, Settings())[0], 0.5)
    by = planner(everyone(0.95))
    assert by.plan(bank_of("ab", verdicts=(gone,)))[1]
    assert isinstance(by.forecasts, PlantedForecasts)
    assert not any("r-z" in recipe.members for recipe in by.forecasts.asked)


def test_what_is_likelier_to_pass_wide_gates_is_measured_first() -> None:
    """ab, cd and ef save a module each; once gates are known to be 0.1 wide, 0.99 is a better bet than 0.93."""
    kept = by_pairs({"ab": 0.05, "cd": 0.07, "ef": 0.01}, default=0.5)
    pairs = Settings(max_trials=1, max_group_size=2)
    wide = MemberResult("r-g", 0.9, 0.8, None, None, 50, 0)
    gate = Verdict(Recipe("ta", ("r-g", "r-h"), (1.0, 1.0), "none", 8), "m-gh", False, "measured", (wide,))
    busy = {"a": 1.0, "b": 1.0, "c": 0.0, "d": 0.0, "e": 9.0, "f": 9.0}
    bank = replace(bank_of("abcdef"), traffic=busy)
    assert plan(bank, kept, pairs)[1][0].adapters == ("c", "d"), "nobody asks for them, so nothing is lost"
    assert plan(replace(bank, verdicts=(gate,)), kept, pairs)[1][0].adapters == ("e", "f")


def test_a_larger_group_inherits_what_its_pair_fell_short() -> None:
    by = planner(everyone(0.95), Settings(max_trials=9))
    pair = plain_recipes(["r-a", "r-b"], {"r-a": 8, "r-b": 8}, Settings())[0]
    _, trials = by.plan(bank_of("abc", verdicts=(measured(pair, 0.5),)))
    assert trials
    assert not any({"a", "b"} <= set(trial.adapters) for trial in trials)
