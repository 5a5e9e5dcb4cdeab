"""The planner that goes by forecasts: what is served, what is tried, and why."""

from __future__ import annotations

import pytest

from router.bank_state import BankState, Settings
from router.forecasts import ConflictPart
from router.ledger import read_ledger
from router.partition import best_partition, gain_of
from router.recipes import plain_recipes, reweighted
from router.records import Action, Placement
from router.screening import screen
from tests.router.banks import bank_of, candidate, groups, verdict
from tests.router.planning import measured, plan, reasons_of
from tests.router.planted import Kept, by_pairs, everyone


def test_a_forecast_alone_serves_nobody_and_is_measured_first() -> None:
    decisions, trials = plan(bank_of("ab"), everyone(0.95))
    assert not groups(decisions)
    [trial] = trials
    assert trial.adapters == ("a", "b")
    assert not trial.explores
    assert (trial.predicted_retentions, trial.lower_bounds) == ((0.95, 0.95), (pytest.approx(0.92),) * 2)
    assert trial.reason == "Merging them would save 1 module; each is predicted to keep 0.95 (at least 0.92) or more."


def test_what_was_measured_to_pass_is_served_with_both_numbers() -> None:
    decisions, trials = plan(bank_of("ab", verdicts=(verdict("ab"),)), everyone(0.93))
    assert groups(decisions) == {frozenset("ab")}
    assert not trials
    assert reasons_of(decisions)["a"] == (
        "a: merged with b, measured to keep 0.95 (at least 0.90), predicted 0.93 (at least 0.90); 0.85 is asked"
    )
    assert (decisions[0].predicted_retention, decisions[0].lower_bound) == (0.93, pytest.approx(0.90))


def test_a_measured_retention_counts_whatever_is_forecast() -> None:
    decisions, _ = plan(bank_of("ab", verdicts=(verdict("ab"),)), everyone(0.2))
    assert groups(decisions) == {frozenset("ab")}


def test_the_action_is_that_of_the_recipe() -> None:
    plain = plain_recipes(["r-a", "r-b"], {"r-a": 8, "r-b": 8}, Settings())[0]
    lighter = measured(reweighted(plain)[0], 0.95)
    decisions, _ = plan(bank_of("ab", verdicts=(lighter,)), everyone(0.5))
    assert {decision.action for decision in decisions} == {Action.REWEIGHT}
    assert "merged with a (a at weight 0.5), measured" in reasons_of(decisions)["b"]


def test_an_infeasible_group_is_neither_served_nor_tried() -> None:
    decisions, trials = plan(bank_of("ab"), by_pairs({"ab": 0.3}))
    assert not trials
    assert reasons_of(decisions)["a"] == (
        "a: separate, predicted to keep 0.70 (at least 0.67) next to b; conflict mostly in layers 20-29"
    )


def test_the_reason_names_the_victim_if_it_is_the_other_one() -> None:
    decisions, _ = plan(bank_of("ab"), lambda recipe: {"r-a": 0.99, "r-b": 0.61})
    assert reasons_of(decisions)["a"] == (
        "a: separate, next to it b is predicted to keep 0.61 (at least 0.58); conflict mostly in layers 20-29"
    )
    assert reasons_of(decisions)["b"].startswith("b: separate, predicted to keep 0.61 (at least 0.58) next to a")


def test_without_any_forecast_nothing_is_tried_and_the_reason_says_so() -> None:
    decisions, trials = plan(bank_of("ab"), lambda _: None)
    assert not trials
    assert reasons_of(decisions)["a"] == "a: separate, nothing is predicted of a merge with it so far"


def test_what_passed_but_scores_less_is_told_to_do_so() -> None:
    bank = bank_of("abc", verdicts=(verdict("ab"), verdict("bc", 0.99, 0.95)))
    decisions, _ = plan(bank, by_pairs({}, default=0.3))
    assert groups(decisions) == {frozenset("bc")}
    assert reasons_of(decisions)["a"] == (
        "a: separate, a merge with b was measured to pass, but the plan scores higher without it"
    )


def test_a_pair_that_was_measured_to_fail_says_what_was_measured() -> None:
    failed = tuple(measured(recipe, 0.6) for recipe in plain_recipes(["r-a", "r-b"], {"r-a": 8, "r-b": 8}, Settings()))
    decisions, trials = plan(bank_of("ab", verdicts=failed), everyone(0.97))
    assert not trials
    assert reasons_of(decisions)["a"] == "a: separate, measured to keep 0.60 (at least 0.58) next to b"


def test_protected_adapters_are_never_merged() -> None:
    bank = BankState((candidate("a"), candidate("b", domain="safety"), candidate("c", protected=True)))
    decisions, trials = plan(bank, everyone(1.0))
    assert not trials
    assert [decision.placement for decision in decisions] == [
        Placement.SEPARATE,
        Placement.PROTECTED,
        Placement.PROTECTED,
    ]


def test_a_veto_keeps_a_group_and_all_that_hold_it_out() -> None:
    vetoed = bank_of("abc", vetoed=frozenset([frozenset(["r-a", "r-b"])]), verdicts=(verdict("ab"),))
    decisions, trials = plan(vetoed, everyone(0.97), Settings(max_trials=9))
    assert not groups(decisions)
    assert trials
    assert not any({"a", "b"} <= set(trial.adapters) for trial in trials)


def test_the_served_partition_is_that_of_the_verdicts_alone() -> None:
    """Forecasts never change which measured groups are served, only what is tried."""
    bank = bank_of("abcd", verdicts=(verdict("ab"), verdict("cd"), verdict("bc", 0.99, 0.95)))
    screened = screen(bank, Settings())
    best = best_partition(read_ledger(bank, screened, Settings()).passed)
    assert gain_of(best) > 0
    for kept in (everyone(0.2), everyone(0.99), by_pairs({"ad": 0.0}, default=0.4)):
        decisions, _ = plan(bank, kept)
        assert groups(decisions) == {frozenset("ab"), frozenset("cd")}


def test_pruned_recipes_are_proposed_where_only_they_pass() -> None:
    parts = [ConflictPart("r-b", ("m9",), 0.9)]
    kept: Kept = lambda recipe: dict.fromkeys(recipe.members, 0.95 if recipe.pruned else 0.75)  # noqa: E731
    _, trials = plan(bank_of("ab"), kept, parts=parts)
    assert trials[0].recipes[0].pruned
