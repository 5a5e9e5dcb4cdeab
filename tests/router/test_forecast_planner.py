"""The planner that goes by forecasts: the forecast proposes, a measurement decides."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.bank_state import BankState, Settings
from router.forecast_planner import ForecastPlanner
from router.forecasts import ConflictPart
from router.ledger import read_ledger
from router.partition import best_partition, gain_of
from router.recipes import plain_recipes, reweighted
from router.records import Action, Decision, MemberResult, Placement, Recipe, Trial, Verdict
from router.screening import screen
from tests.router.banks import bank_of, candidate, groups, table, verdict
from tests.router.planted import Kept, PlantedForecasts, by_pairs, everyone
from tests.router.test_planner import check_safe

Plan = tuple[tuple[Decision, ...], tuple[Trial, ...]]


def planner(kept: Kept, planner_settings: Settings | None = None, **forecasts: object) -> ForecastPlanner:
    return ForecastPlanner(planner_settings or Settings(), PlantedForecasts(kept, **forecasts))  # type: ignore[arg-type]


def plan(bank: BankState, kept: Kept, planner_settings: Settings | None = None, **forecasts: object) -> Plan:
    return planner(kept, planner_settings, **forecasts).plan(bank)


def reasons_of(decisions: Sequence[Decision]) -> dict[str, str]:
    return {decision.adapter: decision.reason for decision in decisions}


def measured(recipe: Recipe, retention: Mapping[str, float] | float, target: float = 0.85) -> Verdict:
    """Return the verdict on a recipe whose members keep this, with bounds that lie 0.02 below."""
    kept = retention if isinstance(retention, Mapping) else dict.fromkeys(recipe.members, retention)
    results = tuple(MemberResult(m, kept[m], kept[m] - 0.02, kept[m], 0.01, 50, 50) for m in recipe.members)
    passed = all(result.gate_lower_bound >= target for result in results)
    return Verdict(recipe, f"m-{recipe.key[:8]}", passed, "measured", results)


def settle(
    bank: BankState, by: ForecastPlanner, truth: Callable[[Recipe], Mapping[str, float]], limit: int = 40
) -> tuple[BankState, int]:
    """Measure what a planner asks for and serve what it decides, until it asks for nothing; count the measurements."""
    count = 0
    for _ in range(limit):
        decisions, trials = by.plan(bank)
        check_safe(bank, decisions, trials, by.settings.target_retention)
        bank = replace(bank, current=table(decisions, bank.verdicts))
        if not trials:
            return bank, count
        verdicts = []
        for trial in trials:
            for recipe in trial.recipes:
                verdicts.append(measured(recipe, truth(recipe)))
                if verdicts[-1].passed:
                    break
        count += len(verdicts)
        bank = replace(bank, verdicts=(*bank.verdicts, *verdicts))
    pytest.fail("it never stopped asking")


# What is served, what is tried.


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


# Exploration.


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
    """Both recipes were predicted to keep 0.95; one kept 0.6, so the other is not worth a look."""
    by = planner(everyone(0.95))
    [trial] = by.plan(bank_of("ab"))[1]
    failed = measured(trial.recipes[0], 0.6)
    assert by.plan(bank_of("ab", verdicts=(failed,)))[1] == ()
    nearly = measured(trial.recipes[0], 0.86)
    assert not nearly.passed
    [again] = planner(everyone(0.97)).plan(bank_of("ab", verdicts=(nearly,)))[1]
    assert again.explores, "0.97 less what the first recipe fell short"
    assert trial.recipes[0] not in again.recipes


def test_a_larger_group_inherits_what_its_pair_fell_short() -> None:
    by = planner(everyone(0.95), Settings(max_trials=9))
    pair = plain_recipes(["r-a", "r-b"], {"r-a": 8, "r-b": 8}, Settings())[0]
    _, trials = by.plan(bank_of("abc", verdicts=(measured(pair, 0.5),)))
    assert trials
    assert not any({"a", "b"} <= set(trial.adapters) for trial in trials)


# The whole bank.


def test_an_all_compatible_bank_is_merged_directly() -> None:
    """Section 5.5: every adapter in one module, by a plain merge."""
    bank, _ = settle(bank_of("abcde"), planner(everyone(0.95)), lambda recipe: dict.fromkeys(recipe.members, 0.95))
    decisions, _ = planner(everyone(0.95)).plan(bank)
    assert groups(decisions) == {frozenset("abcde")}
    assert {decision.action for decision in decisions} == {Action.MERGE}


def test_the_best_partition_is_found_and_not_the_best_pair() -> None:
    """ab keeps most, but ac and bd save two modules where ab saves one."""
    kept = by_pairs({"ab": 0.0, "ac": 0.05, "bd": 0.05, "cd": 0.5, "ad": 0.5, "bc": 0.5})
    _, trials = plan(bank_of("abcd"), kept, Settings(max_trials=9))
    assert {trial.adapters for trial in trials} == {("a", "c"), ("b", "d")}


def test_a_busy_adapter_is_left_alone() -> None:
    quiet = bank_of("abc")
    assert plan(quiet, by_pairs({}, default=0.05))[1]
    busy = replace(quiet, traffic={"a": 100.0, "b": 1.0, "c": 1.0})
    _, trials = plan(busy, by_pairs({}, default=0.1), Settings(max_trials=9))
    assert {trial.adapters for trial in trials} == {("b", "c")}


def test_a_running_group_stays_unless_a_trial_promises_more_than_the_margin() -> None:
    running = verdict("ab", 0.96)
    decisions, _ = plan(bank_of("abc", verdicts=(running,)), everyone(0.2))
    serving = bank_of("abc", verdicts=(running,), current=table(decisions, [running]))
    slightly_better = by_pairs({"ac": 0.02, "ab": 0.3, "bc": 0.3})
    assert plan(serving, slightly_better)[1] == ()
    assert plan(serving, slightly_better, Settings(hysteresis=0.01))[1]


def random_kept(seed: int, low: float = 0.0, high: float = 0.3) -> Kept:
    """Return forecasts with a random loss for every ordered pair, operator and weights."""

    @cache
    def loss(member: str, other: str, operator: str, weights: tuple[float, ...]) -> float:
        return random.Random(f"{seed} {member} {other} {operator} {weights}").uniform(low, high)

    def kept(recipe: Recipe) -> Mapping[str, float]:
        pairs = {one: [other for other in recipe.members if other != one] for one in recipe.members}
        return {
            one: 1.0 - sum(loss(one, other, recipe.operator, recipe.weights) for other in others)
            for one, others in pairs.items()
        }

    return kept


NAMES = "abcdef"
TRIPLES = Settings(max_trials=99, max_group_size=3)
"""Groups of up to three, so that a plan of six adapters takes milliseconds."""
seeds = st.integers(0, 10**6)


@settings(max_examples=15, deadline=None)
@given(seed=seeds, size=st.integers(1, len(NAMES)), shielded=st.sets(st.sampled_from(NAMES), max_size=2))
def test_whatever_is_forecast_every_plan_is_safe_and_trials_come_to_an_end(
    seed: int, size: int, shielded: set[str]
) -> None:
    """Every adapter exactly once, no protected one merged, no group below its bound served, at every tick."""
    bank = BankState(tuple(candidate(name, protected=name in shielded) for name in NAMES[:size]))
    by = planner(random_kept(seed), Settings(max_trials=3, max_group_size=3))
    bank, _ = settle(bank, by, random_kept(seed + 1))
    decisions, trials = by.plan(bank)
    assert not trials
    assert table(decisions, bank.verdicts) == bank.current


@settings(max_examples=15, deadline=None)
@given(seed=seeds, order=st.randoms(use_true_random=False))
def test_neither_order_nor_names_matter(seed: int, order: random.Random) -> None:
    bank = bank_of(NAMES)
    decisions, trials = plan(bank, random_kept(seed), TRIPLES)
    renamed = dict(zip(NAMES, order.sample([f"n{i}" for i in range(len(NAMES))], len(NAMES)), strict=True))
    others = [replace(c, adapter=replace(c.adapter, name=renamed[c.adapter.name])) for c in bank.candidates]
    order.shuffle(others)
    other_decisions, other_trials = plan(replace(bank, candidates=tuple(others)), random_kept(seed), TRIPLES)
    assert {d.revision: (d.placement, d.recipe) for d in decisions} == {
        d.revision: (d.placement, d.recipe) for d in other_decisions
    }
    assert [trial.recipes for trial in trials] == [trial.recipes for trial in other_trials]


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_adding_a_useless_adapter_never_lowers_the_score(seed: int) -> None:
    """g fits nobody: what the plan gains over keeping all separate is the same without it."""
    kept = random_kept(seed)

    def with_useless(recipe: Recipe) -> Mapping[str, float]:
        return dict.fromkeys(recipe.members, 0.1) if "r-g" in recipe.members else kept(recipe)

    assert target_gain(NAMES + "g", with_useless, TRIPLES) == pytest.approx(target_gain(NAMES, kept, TRIPLES))


@settings(max_examples=15, deadline=None)
@given(seed=seeds, size=st.integers(2, 5))
def test_never_worse_than_an_operator_that_merges_all(seed: int, size: int) -> None:
    """Section 5.5, for a bank: wherever one operator may merge everybody, the plan scores at least as much."""
    kept = random_kept(seed, high=0.05)
    revisions = [f"r-{name}" for name in NAMES[:size]]
    for recipe in plain_recipes(revisions, dict.fromkeys(revisions, 8), Settings()):
        predicted = kept(recipe)
        if min(predicted.values()) - 0.03 >= 0.85:
            direct = 0.5 * (size - 1) - sum(1 - value for value in predicted.values())
            assert target_gain(NAMES[:size], kept, Settings(max_trials=99)) >= direct - 1e-9


def target_gain(names: str, kept: Kept, planner_settings: Settings) -> float:
    """Return what the partition that a planner aims at adds to the score of keeping all separate."""
    by = planner(kept, planner_settings)
    _, trials = by.plan(bank_of(names))
    total = 0.0
    for trial in (trial for trial in trials if not trial.explores):
        kept_sum = sum(min(1.0, value) for value in trial.predicted_retentions)
        total += 0.5 * (len(trial.adapters) - 1) - (len(trial.adapters) - kept_sum)
    return total


# Forecasts are asked for once.


def large_bank(count: int, near: int = 10) -> tuple[BankState, PlantedForecasts]:
    """Return adapters on a ring of which the next ones fit, and what is forecast of them."""
    revisions = [f"r-{number:03d}" for number in range(count)]
    bank = BankState(tuple(candidate(revision, revision=revision) for revision in revisions))

    def kept(recipe: Recipe) -> Mapping[str, float]:
        places = [int(member[2:]) for member in recipe.members]
        return dict.fromkeys(recipe.members, 0.99 - 0.01 * (max(places) - min(places)))

    ring = {
        revision: [revisions[(place + step) % count] for step in range(1, near)]
        for place, revision in enumerate(revisions)
    }
    return bank, PlantedForecasts(kept, near=ring)


def test_a_plan_is_made_anew_without_asking_again() -> None:
    bank, forecasts = large_bank(30)
    by = ForecastPlanner(Settings(max_trials=99), forecasts)
    first = by.plan(bank)
    asked = len(forecasts.asked)
    assert asked > 0
    assert by.plan(bank) == first
    assert len(forecasts.asked) == asked


def clusters(count: int, size: int = 5) -> tuple[BankState, PlantedForecasts]:
    """Return adapters of which only those of one cluster are neighbours."""
    of_cluster = [[f"r-{cluster:02d}-{number}" for number in range(size)] for cluster in range(count)]
    near = {one: [other for other in cluster if other != one] for cluster in of_cluster for one in cluster}
    return BankState(tuple(candidate(one, revision=one) for one in sorted(near))), PlantedForecasts(
        lambda recipe: dict.fromkeys(recipe.members, 0.97), near=near
    )


def test_adding_one_adapter_asks_about_its_neighbourhood_only() -> None:
    bank, forecasts = clusters(10)
    by = ForecastPlanner(Settings(max_trials=99), forecasts)
    _, before = by.plan(bank)
    all_asked = len(forecasts.asked)
    forecasts.asked.clear()
    newcomer, own = "r-03-x", [f"r-03-{number}" for number in range(5)]
    forecasts.near = {**forecasts.near, newcomer: own}
    _, after = by.plan(replace(bank, candidates=(*bank.candidates, candidate(newcomer, revision=newcomer))))
    assert any(newcomer in recipe.members for recipe in forecasts.asked)
    assert all({newcomer, *own} >= set(recipe.members) for recipe in forecasts.asked)
    assert len(forecasts.asked) < all_asked / 4
    elsewhere = [trial for trial in before if not trial.adapters[0].startswith("r-03")]
    assert [trial for trial in after if not trial.adapters[0].startswith("r-03")] == elsewhere


def test_other_evidence_of_an_adapter_is_asked_about() -> None:
    bank, forecasts = large_bank(6)
    by = ForecastPlanner(Settings(), forecasts)
    by.plan(bank)
    forecasts.asked.clear()
    forecasts.versions["r-002"] = "calibrated"
    by.plan(bank)
    assert forecasts.asked
    assert all("r-002" in recipe.members for recipe in forecasts.asked)


def test_a_large_bank_is_not_asked_about_all_pairs() -> None:
    bank, forecasts = large_bank(60)
    ForecastPlanner(Settings(), forecasts).plan(bank)
    pairs = {recipe.members for recipe in forecasts.asked if len(recipe.members) == 2}
    assert 0 < len(pairs) <= 60 * 9, "nine neighbours each, of 1770 pairs"


def test_a_large_bank_is_planned_as_well_as_its_ring_allows() -> None:
    """Thirty adapters in a row fit into six groups of five neighbours."""
    bank, forecasts = large_bank(30)
    _, trials = ForecastPlanner(Settings(max_trials=99), forecasts).plan(bank)
    assert [len(trial.adapters) for trial in trials] == [5] * 6


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
