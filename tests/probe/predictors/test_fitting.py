"""Fitting: what was planted is found in adapters that were held out, nothing is found where nothing was planted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from probe.bank.records import Records
from probe.predictors import pair_training
from probe.predictors.card import ViewMetrics
from probe.predictors.cross_fit import cross_fit
from probe.predictors.dataset import pair_rows, schema_of
from probe.predictors.fitting import MIN_ADAPTERS, TooFewLabels, fit
from probe.predictors.folds import adapter_folds
from probe.predictors.forecast import Merge, MergeRecipe, SchemaMismatch
from probe.predictors.pair_training import fit_pair_model, related_columns
from probe.predictors.predictor import Predictor
from probe.predictors.schema import RECIPE, Schema
from probe.predictors.views import BANK_AWARE, COLD_START
from probe.progress import silent
from probe.signals import Family
from tests.planted_bank import HARM_SIGNAL, PLACE_SIGNAL, Planting, Truth, planted_bank
from tests.probe.predictors.small import OPTIONS, evidence_of

Planted = tuple[Records, Truth]
FINISHED = "1 beside 1, all signals"
EARLY = "0.1 beside 1, all signals"
SMALL = Planting(per_domain=2, operators=("ta",), rhos=())


def metrics(predictor: Predictor, view: str, kind: str = "pairs") -> ViewMetrics:
    return next(one for one in predictor.card.metrics if (one.kind, one.view) == (kind, view))


def test_what_was_planted_is_forecast_of_adapters_that_were_held_out(fitted: Predictor) -> None:
    for regime in ("cold start", "bank-aware"):
        for state in (FINISHED, EARLY):
            found = metrics(fitted, f"{regime}, {state}")
            assert found.auroc is not None
            assert found.auroc > 0.85
            assert found.spearman is not None
            assert found.spearman > 0.7
            assert found.bounded_share == 1.0
    aware, cold = (metrics(fitted, f"{regime}, {FINISHED}") for regime in ("bank-aware", "cold start"))
    assert aware.mean_absolute_error < cold.mean_absolute_error


def test_bounds_cover_adapters_that_were_held_out(fitted: Predictor) -> None:
    """Nominal 90 %; 760 labels of 20 adapters, and 40 sets (2 standard errors are 9 %): some points are chance."""
    least = {"pairs": 0.84, "sets": 0.81}
    for one in fitted.card.metrics:
        assert one.coverage is not None
        assert least[one.kind] <= one.coverage <= 0.97, one


def test_sets_are_forecast_too(fitted: Predictor) -> None:
    found = metrics(fitted, f"cold start, {FINISHED}", "sets")
    assert found.num_merges == 40
    assert found.spearman is not None
    assert found.spearman > 0.6
    assert fitted.artefact.sets.layers


def test_nothing_is_found_in_shuffled_labels() -> None:
    records, _ = planted_bank(Planting(is_shuffled=True, rhos=()))
    found = metrics(fit(records, replace(OPTIONS, num_folds=3)), f"cold start, {FINISHED}")
    assert found.auroc is not None
    assert 0.35 < found.auroc < 0.65
    assert found.spearman is not None
    assert abs(found.spearman) < 0.2
    assert found.coverage is not None
    assert found.coverage > 0.85


def test_the_gain_is_forecast_better_than_by_its_mean(fitted: Predictor) -> None:
    gain = fitted.card.gain
    assert gain is not None
    assert gain.num_adapters == 20
    assert gain.mean_absolute_error < gain.error_of_the_mean


def test_the_same_seed_fits_the_same_predictor() -> None:
    records, _ = planted_bank(SMALL)
    evidence = evidence_of(records, ("code-0", "math-1"))
    merge = Merge(("code-0", "math-1"), MergeRecipe("ta"))
    first, again, other = (fit(records, replace(OPTIONS, num_trees=10, num_folds=2, seed=seed)) for seed in (1, 1, 2))
    trees = [one.artefact.pairs.wide.regressor.save_raw("json") for one in (first, again, other)]
    assert trees[0] == trees[1] != trees[2]
    assert first.forecast([merge], evidence) == again.forecast([merge], evidence)
    assert first.card == again.card
    assert first.forecast([merge], evidence) != other.forecast([merge], evidence)


def test_no_model_that_forecasts_a_row_has_seen_its_adapters(planted: Planted) -> None:
    """Labels of one adapter are spoilt: no cold-start forecast of its own rows may change by it."""
    records, _ = planted_bank(SMALL)
    schema, name = schema_of(records), "math-0"
    rows = pair_rows(records, schema)
    touched = (rows.victim == name) | (rows.other == name)
    spoilt = replace(rows, retention=np.where(touched, 9.0, rows.retention))
    folds = adapter_folds(records.adapters, OPTIONS.num_folds, 0)
    first, second = (cross_fit(own, folds, schema, OPTIONS, silent) for own in (rows, spoilt))
    for key, forecasts in first.forecasts.items():
        own = touched if key[0] == COLD_START else touched & (rows.newcomer == name)
        np.testing.assert_array_equal(forecasts.retention[own], second.forecasts[key].retention[own])
    aware = BANK_AWARE, "all signals"
    assert (first.forecasts[aware].retention != second.forecasts[aware].retention).any()


def test_a_model_without_folds_lacks_all_labels_of_their_adapters() -> None:
    records, _ = planted_bank(SMALL)
    schema = schema_of(records)
    rows = pair_rows(records, schema)
    folds = adapter_folds(records.adapters, OPTIONS.num_folds, 0)
    crossed = cross_fit(rows, folds, schema, OPTIONS, silent)
    assert (0, 0) in crossed.models
    seen = np.array([0 not in (folds[a], folds[b]) for a, b in zip(rows.victim, rows.other, strict=True)])
    alone = fit_pair_model(rows, seen, schema, OPTIONS)
    assert alone.wide.regressor.save_raw("json") == crossed.models[0, 0].wide.regressor.save_raw("json")


def test_the_columns_that_tell_something_are_read(planted: Planted) -> None:
    records, _ = planted
    schema = schema_of(records)
    rows = pair_rows(records, schema)
    columns = related_columns(rows, np.arange(len(rows.retention)), schema, OPTIONS.columns_per_block)
    names = {schema.columns[place].name for place in columns}
    assert f"ij: {PLACE_SIGNAL.removeprefix('symmetric:')}" in names
    assert f"j->i: {HARM_SIGNAL}" in names
    assert {column.name for column in schema.recipe} <= names
    assert len(columns) == len(set(columns.tolist())) == 7 * 12 + len(schema.recipe)
    everything = related_columns(rows, np.arange(len(rows.retention)), schema, None)
    np.testing.assert_array_equal(everything, np.arange(len(schema.columns)))


def test_a_family_that_is_left_out_is_not_read(planted: Planted) -> None:
    records, _ = planted_bank(SMALL)
    predictor = fit(records, replace(OPTIONS, num_folds=2, families=frozenset(Family) - {Family.RANK_SPACE}))
    schema = predictor.artefact.schema
    assert isinstance(schema, Schema)
    split = {
        schema.columns[predictor.artefact.pairs.wide.columns[int(feature[1:])]].family
        for feature in predictor.artefact.pairs.wide.regressor.get_score()
    }
    assert Family.RANK_SPACE.value not in split
    assert split - {RECIPE}


def test_too_few_labels_are_refused_and_counted() -> None:
    records, _ = planted_bank(Planting(per_domain=1, operators=("ta",), rhos=()))
    with pytest.raises(TooFewLabels, match=f"20 sound labels of merged pairs, of 5 adapters.*{MIN_ADAPTERS} adapters"):
        fit(records, OPTIONS)


def test_without_any_known_gain_nothing_is_safe_or_unsafe() -> None:
    records, _ = planted_bank(SMALL)
    merges = tuple(label for label in records.labels if label.action != "single")
    with pytest.raises(TooFewLabels, match="is it known whether it is safe"):
        fit(replace(records, labels=merges), OPTIONS)


def test_records_of_another_schema_are_refused() -> None:
    records, _ = planted_bank(SMALL)
    with pytest.raises(SchemaMismatch, match="schema version 7"):
        fit(replace(records, facts=replace(records.facts, feature_schema=7)), OPTIONS)


def test_progress_is_told_to_the_end() -> None:
    records, _ = planted_bank(SMALL)
    told: dict[str, tuple[int, int]] = {}
    fit(records, OPTIONS, lambda doing, done, total: told.update({doing: (done, total)}))
    assert all(done == total for done, total in told.values())
    assert told["models without folds"] == (10, 10)


def test_a_sample_of_copies_keeps_every_finished_label(monkeypatch: pytest.MonkeyPatch) -> None:
    records, _ = planted_bank(replace(SMALL, rhos=(0.1,), loss_error=0.1))
    schema = schema_of(records)
    rows = pair_rows(records, schema)
    everything, columns = np.ones(len(rows.label), dtype=np.bool_), np.arange(len(schema.columns))
    for limit in (1, 200, 10**6):
        monkeypatch.setattr(pair_training, "MAX_ROWS", limit)
        copies = pair_training.copies_of(rows, np.flatnonzero(everything), columns, schema, seed=0)
        assert len(copies.source) == min(max(limit, rows.num_labels), 2 * len(rows.label))
        as_it_is = copies.source[np.isfinite(copies.design).all(axis=1) & rows.is_finished[copies.source]]
        assert set(rows.label[as_it_is]) == set(rows.label)
        # Every label weighs 1 in sum, however many of its copies were drawn.
        sums = [copies.weight[rows.label[copies.source] == label].sum() for label in set(rows.label)]
        np.testing.assert_allclose(sums, 1.0)
