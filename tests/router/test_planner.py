import math
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.retention import Gain
from router.ledger import read_ledger
from router.partition import EXACT_LIMIT, best_partition, gain_of
from router.planner import BankState, Candidate, PairAffinity, Settings, WeightsOnlyPlanner
from router.records import Action, Decision, MemberResult, Placement, Trial, Verdict
from router.screening import screen
from tests.router.banks import CLEAR_GAIN, bank_of, candidate, groups, table, verdict


def plan(bank: BankState, planner_settings: Settings | None = None) -> tuple[tuple[Decision, ...], tuple[Trial, ...]]:
    return WeightsOnlyPlanner(planner_settings or Settings()).plan(bank)


SEPARATE_REASONS = {
    "evaluation": (candidate("a", evaluation=None), "no evaluation rows"),
    "unmeasured": (candidate("a", gain=None), "waiting for its single-task score"),
    "insignificant": (candidate("a", gain=Gain(0.05, 0.03, 50)), "under 2 standard errors"),
}


@pytest.mark.parametrize(("unfit", "reason"), SEPARATE_REASONS.values(), ids=SEPARATE_REASONS.keys())
def test_adapters_that_cannot_be_measured_stay_separate_with_that_reason(unfit: Candidate, reason: str) -> None:
    decisions, trials = plan(BankState(candidates=(unfit, candidate("b"))))
    assert (decisions[0].placement, decisions[0].action) == (Placement.SEPARATE, Action.ROUTE)
    assert reason in decisions[0].reason
    assert not trials


@pytest.mark.parametrize(
    ("shielded", "reason"),
    [(candidate("a", protected=True), "flagged"), (candidate("a", domain="safety"), "its domain safety")],
)
def test_protected_adapters_are_never_merged(shielded: Candidate, reason: str) -> None:
    decisions, trials = plan(BankState(candidates=(shielded, candidate("b")), verdicts=(verdict("ab"),)))
    assert (decisions[0].placement, decisions[0].action) == (Placement.PROTECTED, Action.ROUTE)
    assert reason in decisions[0].reason
    assert not groups(decisions)
    assert not trials


def test_two_names_of_one_content_share_their_module_already() -> None:
    twins = (candidate("a", revision="r"), candidate("b", revision="r"), candidate("c"))
    decisions, trials = plan(BankState(candidates=twins))
    assert all("same content" in decision.reason for decision in decisions[:2])
    assert not trials


def test_leaving_adapters_get_no_decision_and_dissolve_their_group() -> None:
    leaving = BankState(candidates=(candidate("a", leaving=True), candidate("b")), verdicts=(verdict("ab"),))
    decisions, _ = plan(leaving)
    assert [decision.adapter for decision in decisions] == ["b"]
    assert decisions[0].recipe is None


def test_a_passed_group_is_merged_and_its_reason_tells_what_was_measured() -> None:
    decisions, _ = plan(bank_of("abc", verdicts=(verdict("ab"),)))
    assert groups(decisions) == {frozenset("ab")}
    assert decisions[0].reason == "a: merged with b, measured to keep 0.95 (at least 0.90); 0.85 is asked"
    assert decisions[2].placement is Placement.SEPARATE


@pytest.mark.parametrize(
    "unusable",
    [
        verdict("ab", bound=0.8),
        replace(verdict("ab"), passed=False),
        replace(verdict("ab"), members=verdict("ab").members[:1]),
        replace(verdict("ab"), members=tuple(replace(m, gate_lower_bound=None) for m in verdict("ab").members)),
        replace(verdict("ab"), recipe=replace(verdict("ab").recipe, rank=64)),
    ],
)
def test_verdicts_that_do_not_vouch_for_every_member_merge_nothing(unusable: Verdict) -> None:
    decisions, _ = plan(bank_of("ab", verdicts=(unusable,)))
    assert not groups(decisions)


def test_a_new_revision_voids_the_verdict() -> None:
    bank = BankState(candidates=(candidate("a", revision="new"), candidate("b")), verdicts=(verdict("ab"),))
    assert not groups(plan(bank)[0])


def test_the_latest_verdict_on_a_recipe_counts() -> None:
    recheck = replace(verdict("ab"), passed=False)
    assert not groups(plan(bank_of("ab", verdicts=(verdict("ab"), recheck)))[0])
    assert groups(plan(bank_of("ab", verdicts=(recheck, verdict("ab"))))[0])


def test_two_pairs_beat_one_triple() -> None:
    """Four adapters: 4 - 0.2 - 0.5 * 2 = 2.8 for the pairs, 4 - 0.15 - 0.5 * 2 = 2.85 for the triple at 0.95."""
    pairs = (verdict("ab", 0.95), verdict("cd", 0.95))
    assert groups(plan(bank_of("abcd", verdicts=(*pairs, verdict("abc", 0.97))))[0]) == {frozenset("abc")}
    assert groups(plan(bank_of("abcd", verdicts=(*pairs, verdict("abc", 0.92))))[0]) == {
        frozenset("ab"),
        frozenset("cd"),
    }


def test_the_running_partition_stays_unless_clearly_beaten() -> None:
    running, better = verdict("ab", 0.93), verdict("ab", 0.94, operator="mean")
    decisions, _ = plan(bank_of("ab", verdicts=(running,)))
    serving = bank_of("ab", verdicts=(running, better), current=table(decisions, [running]))
    assert {decision.recipe for decision in plan(serving)[0]} == {running.recipe}
    much_better = verdict("ab", 1.0, operator="mean")
    beaten = replace(serving, verdicts=(running, much_better))
    assert {decision.recipe for decision in plan(beaten)[0]} == {much_better.recipe}


def test_a_running_partition_that_became_impossible_is_left_without_a_margin() -> None:
    running = verdict("ab")
    decisions, _ = plan(bank_of("ab", verdicts=(running,)))
    failed = bank_of("ab", verdicts=(replace(running, passed=False),), current=table(decisions, [running]))
    assert not groups(plan(failed)[0])


def test_trials_start_with_the_pair_that_agrees_most_and_collides_least() -> None:
    affinity = {
        frozenset(["r-a", "r-b"]): PairAffinity(0.3, 0.25),
        frozenset(["r-a", "r-c"]): PairAffinity(0.2, 0.01),
        frozenset(["r-b", "r-c"]): PairAffinity(math.nan, math.nan),
    }
    decisions, trials = plan(bank_of("abc", affinity=affinity), Settings(max_trials=3))
    assert [trial.adapters for trial in trials] == [("a", "c"), ("a", "b"), ("b", "c")]
    assert "save 1 module" in trials[0].reason
    assert "0.19" in trials[0].reason
    assert "not measured" in trials[2].reason
    assert decisions[0].reason == "a: separate until its merge with c is measured"


def test_trials_hold_the_untried_recipes_in_order() -> None:
    _, trials = plan(bank_of("ab", verdicts=(verdict("ab", bound=0.2, operator="mean"),)))
    assert [(recipe.operator, recipe.norm) for recipe in trials[0].recipes] == [("mean", "none"), ("ta", "none")]


@pytest.mark.parametrize(("rank", "expected"), [(1, 8), (7, 8), (8, 16), (64, 32)])
def test_the_output_rank_holds_all_members_as_far_as_the_engine_does(rank: int, expected: int) -> None:
    bank = BankState(candidates=(candidate("a", rank=rank), candidate("b", rank=1)))
    _, trials = plan(bank, Settings(output_ranks=(8, 16, 32)))
    assert {recipe.rank for recipe in trials[0].recipes} == {expected}


def test_a_group_has_three_measured_recipes_and_no_more() -> None:
    three = tuple(verdict("ab", bound=0.2, operator=operator) for operator in ("ties", "dare", "svd"))
    assert plan(bank_of("ab", verdicts=three))[1] == ()
    _, trials = plan(bank_of("ab", verdicts=three[:2]))
    assert [recipe.operator for recipe in trials[0].recipes] == ["mean"]


def test_recipes_that_could_not_be_built_are_no_look_at_the_gate_rows() -> None:
    unbuilt = tuple(
        replace(verdict("ab", bound=0.2, operator=operator), module="", members=()) for operator in ("ties", "dare")
    )
    _, trials = plan(bank_of("ab", verdicts=unbuilt))
    assert len(trials[0].recipes) == 3


def test_larger_groups_grow_from_passed_ones_and_avoid_failed_pairs() -> None:
    one_recipe = Settings(recipes=(("ta", "mean_source"),), max_trials=10)
    failed = verdict("bc", bound=0.1)
    _, trials = plan(bank_of("abcd", verdicts=(verdict("ab"), failed)), one_recipe)
    larger = [trial.adapters for trial in trials if len(trial.adapters) > 2]
    assert larger == [("a", "b", "d")]
    _, trials = plan(bank_of("abcd", verdicts=(verdict("ab"), verdict("cd"))), one_recipe)
    assert ("a", "b", "c", "d") in {trial.adapters for trial in trials}


def test_groups_that_could_not_improve_the_plan_are_not_measured() -> None:
    perfect = verdict("abc", retention=1.0, bound=0.95)
    assert not plan(bank_of("abc", verdicts=(perfect,)))[1]


def test_pairs_that_save_a_module_come_before_pairs_that_could_only_keep_more() -> None:
    bank = bank_of("abcd", verdicts=(verdict("ab", 0.88, 0.86),))
    affinity = {frozenset([f"r-{one}", f"r-{other}"]): PairAffinity(0.9, 0.0) for one, other in ("ac", "bd")}
    affinity[frozenset(["r-c", "r-d"])] = PairAffinity(-0.5, 0.0)
    _, trials = plan(replace(bank, affinity=affinity), Settings(max_trials=20))
    adapters = [trial.adapters for trial in trials]
    assert adapters[0] == ("c", "d")
    assert adapters.index(("a", "b", "c")) < adapters.index(("a", "c"))


# Property tests: whole banks with random verdicts.


@st.composite
def banks(draw: st.DrawFn, max_size: int = 6) -> BankState:
    names = "abcdefgh"[: draw(st.integers(1, max_size))]
    gains = st.sampled_from([CLEAR_GAIN, CLEAR_GAIN, CLEAR_GAIN, None, Gain(0.01, 0.1, 9)])
    candidates = tuple(
        candidate(
            name,
            gain=draw(gains),
            protected=draw(st.sampled_from([False, False, False, True])),
            domain=draw(st.sampled_from([None, "math", "safety"])) if draw(st.booleans()) else None,
            rank=draw(st.sampled_from([4, 8, 16])),
        )
        for name in names
    )
    score = st.floats(-1, 1)
    pairs = [frozenset(f"r-{name}" for name in pair) for pair in combinations(names, 2)]
    affinity = {pair: PairAffinity(draw(score), draw(score)) for pair in pairs}
    sets = st.lists(st.sampled_from(names), min_size=2, max_size=4, unique=True) if len(names) > 1 else st.nothing()
    verdicts = tuple(
        verdict("".join(sorted(members)), draw(st.floats(0.86, 1.1)), draw(st.floats(0.7, 0.86)))
        for members in (draw(st.lists(sets, max_size=6)) if len(names) > 1 else [])
    )
    return BankState(candidates=candidates, affinity=affinity, verdicts=verdicts)


def check_safe(bank: BankState, decisions: Sequence[Decision], trials: Sequence[Trial], target: float) -> None:
    """Assert what must hold for every plan."""
    adapters = {c.adapter.name: c.adapter for c in bank.candidates}
    shielded = {a.revision for a in adapters.values() if a.protected or a.domain == "safety"}
    tried = {v.recipe for v in bank.verdicts}
    assert [d.adapter for d in decisions] == sorted(adapters)
    for decision in decisions:
        assert decision.revision == adapters[decision.adapter].revision
        assert decision.reason
        assert (decision.placement is Placement.MERGED) == (decision.recipe is not None)
        assert (decision.placement is Placement.PROTECTED) == (decision.revision in shielded)
        if decision.recipe is not None:
            assert decision.revision in decision.recipe.members
            assert shielded.isdisjoint(decision.recipe.members)
            [latest] = [v for v in bank.verdicts if v.recipe == decision.recipe][-1:]
            assert latest.passed
            assert all((member.gate_lower_bound or 0) >= target for member in latest.members)
    for group in groups(decisions):
        [recipe] = {d.recipe for d in decisions if d.adapter in group}
        assert recipe is not None
        assert {adapters[name].revision for name in group} == set(recipe.members)
    for trial in trials:
        assert trial.recipes
        assert len(trial.adapters) == len(set(trial.adapters)) >= 2
        for recipe in trial.recipes:
            assert recipe not in tried
            assert shielded.isdisjoint(recipe.members)
            assert {adapters[name].revision for name in trial.adapters} == set(recipe.members)


@settings(max_examples=100, deadline=None)
@given(bank=banks())
def test_every_plan_is_safe(bank: BankState) -> None:
    decisions, trials = plan(bank)
    check_safe(bank, decisions, trials, Settings().target_retention)
    assert len(trials) <= Settings().max_trials


@settings(max_examples=60, deadline=None)
@given(bank=banks(), order=st.randoms(use_true_random=False))
def test_neither_order_nor_names_matter(bank: BankState, order: random.Random) -> None:
    decisions, trials = plan(bank)
    names = [c.adapter.name for c in bank.candidates]
    renamed = dict(zip(names, order.sample([f"n{i}" for i in range(len(names))], len(names)), strict=True))
    others = [replace(c, adapter=replace(c.adapter, name=renamed[c.adapter.name])) for c in bank.candidates]
    order.shuffle(others)
    other_decisions, other_trials = plan(replace(bank, candidates=tuple(others)))
    assert {d.revision: (d.placement, d.recipe) for d in decisions} == {
        d.revision: (d.placement, d.recipe) for d in other_decisions
    }
    assert [trial.recipes for trial in trials] == [trial.recipes for trial in other_trials]


@settings(max_examples=25, deadline=None)
@given(bank=banks(max_size=5), luck=st.randoms(use_true_random=False))
def test_planning_comes_to_rest(bank: BankState, luck: random.Random) -> None:
    """Measure every trial with a random outcome, serve every plan: after finitely many ticks nothing is left to try."""
    num_groups = 2 ** len(bank.candidates)
    for _ in range(3 * num_groups):
        decisions, trials = plan(bank)
        check_safe(bank, decisions, trials, Settings().target_retention)
        current = table(decisions, bank.verdicts)
        if not trials:
            assert plan(replace(bank, current=current))[0] == decisions
            return
        bank = replace(bank, current=current, verdicts=(*bank.verdicts, *_measure(trials, luck)))
    pytest.fail("still trials after every recipe of every group was tried")


def _measure(trials: Sequence[Trial], luck: random.Random) -> list[Verdict]:
    """Try each trial's recipes until one passes, as the controller does."""
    verdicts = []
    for trial in trials:
        for recipe in trial.recipes:
            bound = luck.choice([0.6, 0.9])
            results = tuple(MemberResult(m, bound + 0.05, bound, None, None, 50, 0) for m in recipe.members)
            verdicts.append(Verdict(recipe, recipe.key, bound >= 0.85, "measured", results))
            if verdicts[-1].passed:
                break
    return verdicts


@settings(max_examples=100, deadline=None)
@given(bank=banks())
def test_the_exact_partition_is_the_best_of_all(bank: BankState) -> None:
    everyone = replace(bank, candidates=tuple(candidate(c.adapter.name) for c in bank.candidates))
    passed = read_ledger(everyone, screen(everyone, Settings()), Settings()).passed
    every_disjoint_choice = (
        choice
        for size in range(len(passed) + 1)
        for choice in combinations(passed, size)
        if sum(len(group.members) for group in choice) == len(frozenset().union(*(group.members for group in choice)))
    )
    assert gain_of(best_partition(passed)) == pytest.approx(max(map(gain_of, every_disjoint_choice)))


def test_large_banks_are_partitioned_too() -> None:
    names = "abcdefghijklmnop"
    assert len(names) > EXACT_LIMIT
    verdicts = tuple(verdict(names[i : i + 2]) for i in range(0, len(names), 2))
    assert len(groups(plan(bank_of(names, verdicts=verdicts))[0])) == len(names) // 2
