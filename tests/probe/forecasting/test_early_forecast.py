"""Forecasts beside every known adapter: the predictor's own, put in order, and wider where less was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from probe.bank.labelling.measurement import NORMS
from probe.bank.records import Records
from probe.forecasting import sentences
from probe.forecasting.comparison import ComparedAdapter, ComparedPair, Comparison
from probe.forecasting.conflict import Conflict
from probe.forecasting.early_forecast import PLAIN_RECIPES, EarlyForecast, figures, forecast
from probe.forecasting.forecaster import Forecaster
from probe.forecasting.seen_adapter import read_candidate, read_known_bank
from probe.predictors.forecast import AdapterEvidence, Merge, MergeRecipe
from probe.predictors.predictor import Predictor
from probe.profile_store import ProfileStore
from probe.profiling import Profiler
from probe.vectors import Features, PairFeatures
from tests import tiny
from tests.planted_bank import Planting, Truth, planted_bank
from tests.probe.forecasting.seen import small_predictor, write_bundle
from tests.probe.predictors.small import evidence_of

CONFLICT = Conflict((1, 2), True, "conflict mostly in layers 1-2")
MINE = "code-0"
OTHERS = ("instruction-1", "math-2", "science-3")


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return small_predictor()


@pytest.fixture(scope="module")
def planted() -> tuple[Records, Truth]:
    return planted_bank(Planting(operators=("ta",), num_sets=12))


def comparison_of(records: Records, predictor: Predictor, missing: frozenset[str] = frozenset()) -> Comparison:
    """Return what was known of an adapter at 10 % of its training beside finished ones, without what is missing."""
    schema = predictor.artefact.schema

    def blank(values: np.ndarray, columns: Sequence[object]) -> np.ndarray:
        return np.where([bool(column.needs & missing) for column in columns], math.nan, values)  # type: ignore[attr-defined]

    adapters, pairs = {}, {}
    for other in OTHERS:
        known = evidence_of(records, (MINE, other), (0.1, 1.0))
        for name, one in known.adapters.items():
            values = AdapterEvidence(blank(one.values, schema.adapter), one.rho)
            adapters[name] = ComparedAdapter(name, values, ("model.layers.0.self_attn.q_proj",), 8, 2)
        (pair,) = known.pairs.values()
        features = PairFeatures(
            Features(blank(pair.forth.values, schema.directed), {}),
            Features(blank(pair.back.values, schema.directed), {}),
            Features(blank(pair.symmetric.values, schema.symmetric), {}),
        )
        pairs[MINE, other] = ComparedPair(features, (np.empty(0), np.empty(0)), CONFLICT)
    return Comparison(MINE, adapters, pairs, {"safety-0": "protected"})


def widths(found: EarlyForecast) -> list[float]:
    return [one.best.retention - one.best.lower_bound for one in found.partners]


def test_forecasts_are_the_predictors_own_with_the_candidate_first(
    planted: tuple[Records, Truth], predictor: Predictor
) -> None:
    comparison = comparison_of(planted[0], predictor)
    found = forecast(comparison, predictor, [MergeRecipe("ta", "none")])
    for partner in found.partners:
        merge = Merge((partner.revision, MINE), MergeRecipe("ta", "none", rank=8))
        (direct,) = predictor.forecast([merge], comparison.evidence)
        (own,) = partner.recipes
        assert (own.other_retention, own.retention) == direct.retention
        assert (own.other_lower_bound, own.lower_bound) == direct.lower_bound
        assert (own.safe_probability, own.num_labels) == (direct.safe_probability, direct.num_labels)
        assert math.isfinite(own.lower_bound)
        assert partner.signals == "all signals"
    assert found.gain == predictor.gain(comparison.adapters[MINE].evidence)
    assert found.left_out == (("safety-0", "protected"),)
    assert (found.rho, found.reads_rows) == (0.1, True)


def test_the_best_partner_comes_first_and_the_worst_conflicts_most(
    planted: tuple[Records, Truth], predictor: Predictor
) -> None:
    found = forecast(comparison_of(planted[0], predictor), predictor)
    bounds = [one.best.worst_lower_bound for one in found.partners]
    assert bounds == sorted(bounds, reverse=True)
    assert found.most_conflicting.best.worst == min(one.best.worst for one in found.partners)
    for partner in found.partners:
        assert partner.best.worst_lower_bound == max(one.worst_lower_bound for one in partner.recipes)


def test_every_pair_is_asked_as_banks_are_measured() -> None:
    assert [(one.operator, one.norm) for one in PLAIN_RECIPES] == [("ta", NORMS["ta"]), ("mean", None)]


def test_weights_alone_widen_the_bound_as_measured_and_it_is_said(
    planted: tuple[Records, Truth], predictor: Predictor
) -> None:
    known = forecast(comparison_of(planted[0], predictor), predictor)
    blind = forecast(comparison_of(planted[0], predictor, frozenset({"calibration", "shift", "metadata"})), predictor)
    assert {one.signals for one in blind.partners} == {"weights only"}
    assert min(widths(blind)) > max(widths(known))
    assert not blind.reads_rows
    assert "weights alone" in sentences.of_knowledge(blind)
    assert "rows of both" in sentences.of_knowledge(known)


def test_figures_are_finite_and_name_partners(planted: tuple[Records, Truth], predictor: Predictor) -> None:
    found = forecast(comparison_of(planted[0], predictor), predictor)
    told = figures(found)
    assert told["predicted_gain"] == found.gain
    for partner in found.partners:
        assert told[f"worst_retention/{partner.name}"] == partner.best.worst
        assert told[f"worst_lower_bound/{partner.name}"] == partner.best.worst_lower_bound
    unbounded = [
        replace(partner, recipes=tuple(replace(one, lower_bound=-math.inf) for one in partner.recipes))
        for partner in found.partners
    ]
    assert set(figures(replace(found, gain=math.nan, partners=tuple(unbounded)))) == {
        f"worst_retention/{name}" for name in OTHERS
    }


def test_sentences_hold_the_numbers(planted: tuple[Records, Truth], predictor: Predictor) -> None:
    found = forecast(comparison_of(planted[0], predictor), predictor)
    partner = found.partners[0]
    told = sentences.of_partner(found, partner)
    assert f"{MINE} is predicted to keep {partner.best.retention:.2f} (at least {partner.best.lower_bound:.2f})" in told
    assert f"{partner.name} {partner.best.other_retention:.2f}" in told
    assert told.endswith("; conflict mostly in layers 1-2.")
    worst = found.most_conflicting
    assert sentences.of_most_conflicting(found).startswith(f"{worst.name} conflicts most with {MINE}")
    assert f"{found.gain:.0%}" in sentences.of_gain(found)
    assert "not predicted" in sentences.of_gain(replace(found, gain=math.nan))


def test_a_forecaster_goes_from_a_bundle_to_figures(tmp_path: Path, predictor: Predictor) -> None:
    for seed, name in enumerate(("art", "code")):
        tiny.write_adapter(tmp_path / "bank" / name, seed=seed)
    work = Profiler(ProfileStore(tmp_path / "profiles"), Path)
    forecaster = Forecaster(read_known_bank(tmp_path / "bank"), predictor, work)
    bundle = write_bundle(tmp_path / "mine")
    found = forecaster.forecast(read_candidate(bundle))
    assert {one.signals for one in found.partners} == {"weights only"}
    assert forecaster(bundle) == figures(found)
    assert {"worst_retention/art", "worst_retention/code"} <= forecaster(bundle).keys()
