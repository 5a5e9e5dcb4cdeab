"""Learners of pairs find what is planted, each as far as it may look, and never see what is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pytest

import tests.planted_bank
from probe.evaluation.judged import Judgements
from probe.evaluation.metrics import over_adapters, spearman
from probe.evaluation.pair_learners import LEARNED, PAIR_LEARNERS, constant
from probe.evaluation.pair_trials import PairData, PairForecaster, try_pairs
from probe.evaluation.scores import auroc_lead, auroc_of, spearman_of
from probe.evaluation.splits import Split, as_groups, cold_start, leave_operator_out, leave_out
from probe.evaluation.teaching import shuffled
from probe.predictors.dataset import schema_of
from probe.predictors.folds import adapter_folds
from probe.predictors.options import FitOptions
from tests.planted_bank import Planting, planted_bank

OPTIONS = FitOptions(num_trees=60, depth=4, columns_per_block=8)
EARLY = 0.1


def data_of(planting: Planting) -> PairData:
    records, _ = planted_bank(planting)
    return PairData.of(records, schema_of(records))


def splits_of(data: PairData, names: list[str], number: int = 4) -> tuple[Split, ...]:
    return leave_out(as_groups({name: place % number for place, name in enumerate(names)}))


def all_learners(planting: Planting) -> dict[str, Judgements]:
    records, _ = planted_bank(planting)
    data = PairData.of(records, schema_of(records))
    splits = leave_out(as_groups(adapter_folds(records.adapters, 4, 0)))
    return {name: try_pairs(data, row.learner(OPTIONS), splits, (EARLY,))[EARLY] for name, row in PAIR_LEARNERS.items()}


@pytest.fixture(scope="module")
def found() -> Mapping[str, Judgements]:
    return all_learners(Planting())


@pytest.fixture(scope="module")
def of_the_cosine() -> Iterator[Mapping[str, Judgements]]:
    """Forecasts in a bank where the cosine of the updates is all that matters."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tests.planted_bank, "PLACE_SIGNAL", "symmetric:cosine/all/mean")
        patch.setattr(tests.planted_bank, "FRAILTY", 0.0)
        patch.setattr(tests.planted_bank, "HAZE", 0.0)
        yield all_learners(Planting())


BLIND = ("constant", "recipe only", "metadata only", "cosine only")
"""Learners that cannot see what is planted in an ordinary bank."""


@pytest.mark.parametrize("name", BLIND)
def test_the_learned_model_beats_who_cannot_see_the_truth(found: Mapping[str, Judgements], name: str) -> None:
    ahead = auroc_lead(found[LEARNED], found[name])
    assert ahead.low > 0
    assert auroc_of(found[LEARNED]).low > 0.8


def test_weights_say_more_than_the_recipe_alone(found: Mapping[str, Judgements]) -> None:
    assert auroc_lead(found["ridge"], found["recipe only"]).value > 0.03


def test_a_constant_ranks_nothing_within_a_split(found: Mapping[str, Judgements]) -> None:
    assert len({row.forecast.safe_probability for row in found["constant"].rows}) == 4
    assert auroc_of(found["constant"]).low < 0.5


def test_the_cosine_alone_wins_where_it_is_all_there_is(of_the_cosine: Mapping[str, Judgements]) -> None:
    cosine = of_the_cosine["cosine only"]
    assert auroc_of(cosine).low > 0.85
    assert auroc_lead(of_the_cosine[LEARNED], cosine).low <= 0
    assert spearman_of(cosine).value > spearman_of(of_the_cosine[LEARNED]).value
    for name in ("recipe only", "metadata only", "ridge"):
        assert auroc_lead(cosine, of_the_cosine[name]).low > 0


def test_a_model_of_shuffled_labels_knows_nothing() -> None:
    records, _ = planted_bank()
    schema = schema_of(records)
    data, taught = PairData.of(records, schema), PairData.of(shuffled(records), schema)
    splits = leave_out(as_groups(adapter_folds(records.adapters, 4, 0)))
    judged = try_pairs(data, PAIR_LEARNERS[LEARNED].learner(OPTIONS), splits, (EARLY,), taught=taught)[EARLY]
    auroc = auroc_of(judged)
    assert auroc.low <= 0.5 <= auroc.high
    # Operators are told apart by nothing either: within each, as well.
    for operator in ("ta", "ties"):
        within = auroc_of(judged.where(lambda row, operator=operator: row.operator == operator))
        assert within.low <= 0.5 <= within.high


def test_what_is_seen_and_what_is_asked_of_a_pair_is_as_the_split_says() -> None:
    data = data_of(Planting(per_domain=2))
    names = sorted({name for merge in data.merges for name in merge.merge.members})
    asked: list[int] = []

    def spy(taught: PairData, seen: np.ndarray) -> PairForecaster:
        new = split.left_out
        assert new.isdisjoint(taught.rows.victim[seen])
        assert new.isdisjoint(taught.rows.other[seen])
        model = constant(taught, seen)
        for rows in data.asked(split, EARLY).values():
            for row in rows:
                sides = ((data.rows.victim, data.rows.rho_victim), (data.rows.other, data.rows.rho_other))
                assert all((rho[row] == EARLY) == (name[row] in new) for name, rho in sides)
                asked.append(row)
        return model

    for split in splits_of(data, names):
        try_pairs(data, spy, [split], (EARLY,))
    # Every label once: in the state in which its newcomer is early and everybody else is not.
    assert len(asked) == len(set(data.rows.label)) == 2 * 45 * 2


def test_a_cold_start_sees_both_early() -> None:
    data = data_of(Planting(per_domain=2))
    names = sorted({name for merge in data.merges for name in merge.merge.members})
    for split in cold_start(as_groups({name: place % 3 for place, name in enumerate(names)})):
        for rows in data.asked(split, EARLY).values():
            assert set(data.rows.rho_victim[rows]) == set(data.rows.rho_other[rows]) == {EARLY}


def test_an_operator_that_was_never_seen_is_judged_within_itself() -> None:
    data = data_of(Planting(per_domain=3))
    splits = leave_operator_out(["ta", "ties"])
    judged = try_pairs(data, PAIR_LEARNERS[LEARNED].learner(OPTIONS), splits, (1.0,))[1.0]
    assert {row.stratum for row in judged.rows} == {"ta", "ties"}
    # The other operator's level is forecast, so pooled it looks wrong; within an operator the order is right.
    sides = judged.sides
    pooled = over_adapters(spearman(sides.forecast, sides.measured), sides.members, "members")
    assert spearman_of(judged).value > 0.7 > pooled.value + 0.2


def test_too_few_labels_test_nothing() -> None:
    data = data_of(Planting(per_domain=1, operators=("ta",)))
    names = sorted({name for merge in data.merges for name in merge.merge.members})
    splits = leave_out(as_groups({name: 0 if name < "math" else 1 for name in names}))
    assert try_pairs(data, constant, splits, (EARLY,))[EARLY].rows == ()
