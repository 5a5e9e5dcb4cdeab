"""Whole banks: the best partition, and what holds for every plan."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.bank_state import BankState, Settings
from router.recipes import plain_recipes
from router.records import Action, Recipe
from tests.router.banks import bank_of, candidate, groups, table, verdict
from tests.router.planning import plan, planner, settle
from tests.router.planted import Kept, by_pairs, everyone


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
