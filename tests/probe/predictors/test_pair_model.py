"""The pair model: losses that say nearly all are not drowned by a thousand columns that say nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from probe.predictors.cross_fit import cross_fit
from probe.predictors.dataset import PairRows, pair_rows, schema_of
from probe.predictors.folds import adapter_folds
from probe.predictors.pair_model import PairModel
from probe.predictors.pair_training import fit_pair_model
from probe.predictors.schema import RECIPE, Schema
from probe.predictors.views import COLD_START
from probe.progress import silent
from probe.signals import Family
from tests.planted_bank import Planting, planted_bank
from tests.probe.predictors.small import OPTIONS

PLANTING = Planting(per_domain=3, operators=("ta", "mean"), loss_error=0.05, rhos=())


@pytest.fixture(scope="module")
def schema() -> Schema:
    return schema_of(planted_bank(PLANTING)[0])


@pytest.fixture(scope="module")
def rows(schema: Schema) -> PairRows:
    return pair_rows(planted_bank(PLANTING)[0], schema)


@pytest.fixture(scope="module")
def model(rows: PairRows, schema: Schema) -> PairModel:
    return fit_pair_model(rows, np.ones(len(rows.retention), dtype=bool), schema, OPTIONS)


def test_where_losses_were_measured_both_kinds_of_trees_count(rows: PairRows, schema: Schema, model: PairModel) -> None:
    assert model.narrow is not None
    known = rows.design
    unknown = known.copy()
    unknown[:, schema.kept_position] = math.nan
    wide, narrow = model.wide(known), model.narrow(known)
    np.testing.assert_allclose(model(known).retention, (wide.retention + narrow.retention) / 2)
    np.testing.assert_allclose(model(known).margin, (wide.margin + narrow.margin) / 2)
    np.testing.assert_array_equal(model(unknown).retention, model.wide(unknown).retention)
    mixed = np.concatenate([known[:1], unknown[1:]])
    np.testing.assert_allclose(
        model(mixed).retention, [model(known).retention[0], *model(unknown).retention[1:]], rtol=1e-6
    )


def test_the_narrow_trees_read_losses_and_the_recipe_alone(schema: Schema, model: PairModel) -> None:
    assert model.narrow is not None
    families = {schema.columns[place].family for place in model.narrow.columns}
    assert families == {Family.LOSS.value, RECIPE}


def test_without_losses_there_are_no_narrow_trees(rows: PairRows, schema: Schema) -> None:
    blank = rows.design.copy()
    blank[:, schema.kept_position] = math.nan
    everything = np.ones(len(blank), dtype=bool)
    assert fit_pair_model(replace(rows, design=blank), everything, schema, OPTIONS).narrow is None


def correlations(rows: PairRows, folds: Mapping[str, int], schema: Schema) -> tuple[float, float]:
    """Return the rank correlation of forecasts of new adapters with Ret: by the wide trees, and by both."""
    crossed = cross_fit(rows, folds, schema, OPTIONS, silent)
    both = crossed.forecasts[COLD_START, "all signals"].retention
    wide = replace(crossed, models={key: replace(model, narrow=None) for key, model in crossed.models.items()})
    alone = np.full(len(both), math.nan)
    for (a, b), one in wide.models.items():
        sides = np.sort([[folds[v], folds[o]] for v, o in zip(rows.victim, rows.other, strict=True)], axis=1)
        own = (sides == (a, b)).all(axis=1)
        alone[own] = one(rows.design[own]).retention
    return tuple(float(spearmanr(found, rows.retention, nan_policy="omit")[0]) for found in (alone, both))


def test_losses_are_heard_among_a_thousand_columns_of_noise(rows: PairRows, schema: Schema) -> None:
    folds = adapter_folds(planted_bank(PLANTING)[0].adapters, OPTIONS.num_folds, 0)
    wide, both = correlations(rows, folds, schema)
    assert both > 0.8
    assert both > wide + 0.03
