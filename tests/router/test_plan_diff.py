"""What a plan changes against what is served."""

from __future__ import annotations

import pytest

from router.bank_state import Settings
from router.forecast_planner import ForecastPlanner
from router.plan_diff import Figure, PlanDiff, Source, plan_diff, slots_warning
from router.planner import WeightsOnlyPlanner
from router.records import Action, Placement, RoutingTable, Trial, Verdict
from tests.router.banks import bank_of, table, verdict
from tests.router.planted import PlantedForecasts, everyone


def diff_of(names: str, current: RoutingTable, verdicts: tuple[Verdict, ...], *trials: Trial, slots: int | None = None):
    decisions, _ = WeightsOnlyPlanner().plan(bank_of(names, verdicts=verdicts, current=current))
    built = {one.recipe: one.module for one in verdicts}
    modules = {d.adapter: built[d.recipe] if d.recipe else d.revision for d in decisions}
    return plan_diff(current, decisions, trials, modules, verdicts, Settings(slots=slots))


def serving(names: str, *verdicts: Verdict) -> RoutingTable:
    decisions, _ = WeightsOnlyPlanner().plan(bank_of(names, verdicts=verdicts))
    return table(decisions, verdicts)


def test_a_merge_moves_its_members_and_nobody_else() -> None:
    diff: PlanDiff = diff_of("abc", serving("abc"), (verdict("ab", 0.95),))
    assert [(move.adapter, move.before, move.after) for move in diff.moves] == [
        ("a", "r-a", "m-ab-ta"),
        ("b", "r-b", "m-ab-ta"),
    ]
    assert diff.moves[0].together_with == ("b",)
    assert diff.moves[0].retention == Figure(0.95, Source.MEASURED)


def test_cost_falls_by_the_modules_saved_and_retention_says_where_it_comes_from() -> None:
    diff = diff_of("abc", serving("abc"), (verdict("ab", 0.95),))
    assert (diff.now.active, diff.planned.active) == (3, 2)
    assert (diff.now.cost, diff.planned.cost) == (1.5, 1.0)
    assert diff.now.macro == diff.now.worst == Figure(1.0, Source.CONSTRUCTION)
    assert diff.planned.worst == Figure(0.95, Source.MEASURED)
    assert diff.planned.macro == Figure(pytest.approx((0.95 + 0.95 + 1) / 3), Source.MEASURED)


def test_nothing_moves_where_the_plan_is_what_is_served() -> None:
    passed = verdict("ab", 0.95)
    diff = diff_of("abc", serving("abc", passed), (passed,))
    assert diff.moves == diff.removed == ()
    assert diff.planned.active == diff.now.active


def test_a_new_adapter_moves_from_nowhere_and_a_removed_one_is_named() -> None:
    diff = diff_of("bc", serving("ab"), ())
    assert [(move.adapter, move.before) for move in diff.moves] == [("c", None)]
    assert diff.removed == ("a",)


def test_trials_show_what_may_be_hoped_and_say_that_it_is_predicted() -> None:
    hope = Trial(("a", "b"), verdict("ab").recipe and (verdict("ab").recipe,), "hope", (0.92, 0.94), (0.9, None))
    diff = diff_of("abc", serving("abc"), (), hope)
    assert diff.hoped is not None
    assert diff.hoped.active == 2
    assert diff.hoped.worst == Figure(0.92, Source.PREDICTED)
    assert diff.hoped.macro == Figure(pytest.approx((0.92 + 0.94 + 1) / 3), Source.PREDICTED)


def test_who_loses_its_group_to_a_trial_is_counted_separate() -> None:
    passed = verdict("ab", 0.95)
    hope = Trial(("b", "c"), (verdict("bc").recipe,), "hope", (0.99, 0.99), (0.9, 0.9))
    diff = diff_of("abc", serving("abc", passed), (passed,), hope)
    assert diff.hoped is not None
    assert diff.hoped.active == 2
    assert diff.hoped.worst == Figure(0.99, Source.PREDICTED)


def test_without_predicted_trials_nothing_is_hoped() -> None:
    blind = Trial(("a", "b"), (verdict("ab").recipe,), "an order of work")
    assert diff_of("ab", serving("ab"), (), blind).hoped is None


def test_more_modules_than_slots_are_allowed_and_warned_of() -> None:
    assert diff_of("abc", serving("abc"), (), slots=4).warning == ""
    warning = diff_of("abc", serving("abc"), (), slots=3).warning
    assert "needs 3 modules, and the engine mixes 3" in warning
    assert "nothing is merged below its bound" in warning
    assert slots_warning(100, Settings()) == "", "the slots are not known"


def test_slots_merge_nobody_below_the_bound() -> None:
    """Soft slots: the same plan with two slots as with any number of them."""
    bank = bank_of("abcd")
    plans = [ForecastPlanner(Settings(slots=slots), PlantedForecasts(everyone(0.8))).plan(bank) for slots in (None, 2)]
    assert plans[0] == plans[1]
    assert not plans[1][1]
    assert all(d.placement is Placement.SEPARATE and d.action is Action.ROUTE for d in plans[1][0])
