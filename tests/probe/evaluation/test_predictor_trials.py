"""Whole predictors are fitted to what a split leaves, asked what it tests, and their bounds hold."""

from __future__ import annotations

import pytest

from probe.bank.records import Records
from probe.evaluation.evaluation import Evaluation
from probe.evaluation.predictor_trials import PredictorData, try_predictors, without
from probe.evaluation.scores import auroc_of, coverage_of, worst_coverage_of
from probe.evaluation.splits import Regime, leave_domain_out, leave_operator_out, leave_out
from probe.predictors.known_features import KnownFeatures
from probe.predictors.labelled_merges import labelled_merges
from tests.probe.evaluation.small import OPTIONS


@pytest.fixture(scope="module")
def data(planted: Records) -> PredictorData:
    return PredictorData(planted, labelled_merges(planted)[0], KnownFeatures(planted))


def test_nothing_of_what_is_left_out_is_left(planted: Records) -> None:
    left = frozenset({"math-0", "code-1"})
    (split,) = leave_out([left])
    rest = without(planted, split)
    assert len(rest.adapters) == len(planted.adapters) - 2
    assert left.isdisjoint(name for label in rest.labels for name in (*label.members, label.adapter))
    assert left.isdisjoint(name for row in (*rest.adapter_features, *rest.pair_features) for name in row.names)
    (operator, _) = leave_operator_out(["ta", "ties"])
    assert {label.operator for label in without(planted, operator).labels} == {"ties", "none"}


def test_questions_are_asked_in_the_state_that_the_regime_sees(data: PredictorData, planted: Records) -> None:
    (split,) = leave_out([frozenset({"math-0"})])
    ((merges, evidence),) = data.questions(split, 0.1)
    assert all("math-0" in labelled.merge.members for labelled in merges)
    assert {name: one.rho for name, one in evidence.adapters.items() if one.rho < 1} == {"math-0": 0.1}
    domain = leave_domain_out({adapter.name: adapter.domain for adapter in planted.adapters})[0]
    ((_, evidence),) = data.questions(domain, 0.1)
    assert {name.split("-")[0] for name, one in evidence.adapters.items() if one.rho < 1} == {"code"}


def test_a_split_that_leaves_too_little_is_named_and_tests_nothing(data: PredictorData, planted: Records) -> None:
    names = sorted(adapter.name for adapter in planted.adapters)
    tried = try_predictors(data, OPTIONS, leave_out([frozenset(names[:9])]), (0.1,))
    assert tried.too_few == ("code-0 and 8 more",)
    assert tried.judged[0.1].rows == tried.by_pairs[0.1].rows == ()


def test_the_nominal_coverage_is_within_the_interval(evaluation: Evaluation) -> None:
    judged = evaluation.predictors[Regime.BANK_AWARE].judged[0.1].pairs
    for found in (coverage_of(judged), worst_coverage_of(judged)):
        assert found.low <= 0.9 <= found.high
        assert found.n > 200


def test_predictors_forecast_as_well_as_the_pair_model_within_them(evaluation: Evaluation) -> None:
    judged = evaluation.predictors[Regime.BANK_AWARE].judged[0.1].plain_pairs
    assert auroc_of(judged).low > 0.7


def test_sets_by_their_pairs_are_no_better_than_the_worst_pair(evaluation: Evaluation) -> None:
    tried = evaluation.predictors[Regime.BANK_AWARE]
    by_pairs = tried.by_pairs[0.1]
    assert by_pairs.sizes == (2, 3, 4, 5)
    for whole, least in zip(tried.judged[0.1].plain_pairs.rows, by_pairs.plain_pairs.rows, strict=True):
        assert whole.forecast.retention == least.forecast.retention
    for row in by_pairs.where(lambda row: row.size > 2).rows:
        assert row.forecast.worst == min(row.forecast.retention)


def test_gains_of_adapters_left_out_are_forecast_once(evaluation: Evaluation, planted: Records) -> None:
    gains = evaluation.predictors[Regime.BANK_AWARE].gains[0.1]
    assert sorted(one.adapter for one in gains) == sorted(adapter.name for adapter in planted.adapters)
