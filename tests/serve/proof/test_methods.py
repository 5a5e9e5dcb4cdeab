"""Every way to plan the planted bank, and what it costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from probe.bank.records import Records
from probe.predictors.predictor import Predictor
from router.partition import best_partition, gain_of
from serve.proof.contest import Contest, num_modules
from serve.proof.methods import MERGEPROBE, ORACLE, cosine_plan, partitions
from serve.proof.proof import Proof, prove
from serve.proof.recorded_bank import ProofError, RecordedBank, names
from serve.proof.recorded_forecasts import RecordedForecasts, cosines


@pytest.fixture(scope="module")
def contest(proof: Proof) -> Contest:
    return proof.contest


def test_mergeprobe_serves_what_the_judge_let_pass_and_measures_little(proof: Proof, contest: Contest) -> None:
    outcome = proof.outcomes[MERGEPROBE]
    (plan,) = outcome.plans
    assert plan
    assert all(contest.verdict(recipe).passed for recipe in plan)
    assert outcome.num_verified < np.mean(contest.random_verifications) / 3
    assert set(plan) <= set(contest.bank.groups)


def test_groups_of_a_plan_are_disjoint_and_spare_the_protected(proof: Proof, contest: Contest) -> None:
    for name, outcome in proof.outcomes.items():
        for plan in outcome.plans:
            assert len(names(plan)) == sum(len(one.members) for one in plan)
            assert name.startswith("merge all, ") or names(plan).isdisjoint(contest.bank.guests)


def test_rivals_have_mergeprobes_cost_or_its_budget(proof: Proof, contest: Contest) -> None:
    wanted = contest.num_modules
    for name, outcome in proof.outcomes.items():
        if name.startswith(("random groups", "cosine groups")):
            assert {num_modules(contest.bank, plan) for plan in outcome.plans} == {wanted}
    assert proof.outcomes["verified in random order"].num_verified == contest.mergeprobe.num_verified


@pytest.mark.parametrize(("modules", "count"), [(8, 1), (7, 21), (6, 35 + 105), (4, 70 + 105)])
def test_random_groups_are_all_partitions_of_a_size(contest: Contest, modules: int, count: int) -> None:
    """Seven adapters into blocks of one to three: a triple or two pairs save two modules."""
    found = list(partitions(contest, "ta", modules))
    assert len({frozenset(plan) for plan in found}) == len(found) == count
    assert all(num_modules(contest.bank, plan) == modules for plan in found)


def test_cosine_groups_join_the_closest_first(contest: Contest) -> None:
    known = cosines(contest.bank)
    (recipe,) = cosine_plan(contest, "ta", len(contest.bank.adapters) - 1)
    assert frozenset(recipe.members) == max(known, key=lambda pair: known[pair])
    fewest = cosine_plan(contest, "ta", 1)
    assert {len(one.members) for one in fewest} <= {2, 3}


def test_random_orders_stop_at_the_first_plan_that_is_as_good(contest: Contest) -> None:
    wanted = gain_of(contest.passed(contest.mergeprobe.plans[0]))
    for order, count in list(zip(contest.random_orders(), contest.random_verifications, strict=True))[:5]:
        scores = [gain_of(best_partition(contest.passed(order[:size]))) for size in range(len(order) + 1)]
        assert count == next(size for size, score in enumerate(scores) if score >= wanted - 1e-9)


def test_the_oracle_is_the_best_by_the_rows_that_it_sees(proof: Proof) -> None:
    def score(name: str) -> float:
        outcome, bank = proof.outcomes[name], proof.contest.bank
        (plan,) = outcome.plans
        kept = [min(1.0, value) for recipe in plan for value in bank.told(recipe).values()]
        separate = len(bank.adapters) - len(kept)
        return sum(kept) + separate - proof.contest.settings.lambda_cost * num_modules(bank, plan)

    (plan,) = proof.outcomes[ORACLE].plans
    told = [value for recipe in plan for value in proof.contest.bank.told(recipe).values()]
    assert min(told) >= 0.85
    own = proof.outcomes[MERGEPROBE].plans[0]
    if all(min(proof.contest.bank.told(recipe).values()) >= 0.85 for recipe in own):
        assert score(ORACLE) >= score(MERGEPROBE) - 1e-9


def test_a_predictor_that_saw_an_adapter_proves_nothing(records: Records, predictor: Predictor) -> None:
    seen = predictor.card.revisions[0]
    known = replace(records, adapters=(replace(records.adapters[0], revision=seen), *records.adapters[1:]))
    with pytest.raises(ProofError, match=f"was fitted on {known.adapters[0].name}"):
        prove(known, predictor)


def test_records_without_features_or_groups_are_named(records: Records, predictor: Predictor) -> None:
    with pytest.raises(ProofError, match="hold no features of"):
        RecordedForecasts(RecordedBank(replace(records, pair_features=())), predictor)
    with pytest.raises(ProofError, match="not every pair and triple"):
        prove(replace(records, labels=()), predictor)
