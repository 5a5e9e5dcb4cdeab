"""Rows of the design: the victim first, whichever way a pair was measured."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from probe.bank.records import Records
from probe.features import pair_vector_names
from probe.predictors.dataset import schema_of
from probe.predictors.design import blanked, design, missing_of, oriented, sides_of
from probe.predictors.forecast import (
    AdapterEvidence,
    Evidence,
    EvidenceMissing,
    Merge,
    MergeRecipe,
    PredictorError,
    SchemaMismatch,
)
from probe.predictors.schema import CALIBRATION, CROSS_TASK, KEPT, METADATA, RECIPE, SIGNALS, Schema
from probe.signals import Family
from tests.planted_bank import FORCE_SIGNAL, HARM_SIGNAL, PLACE_SIGNAL, Planting, Truth, planted_bank
from tests.probe.predictors.small import evidence_of, with_adapters

Planted = tuple[Records, Truth]
A, B = "code-0", "math-1"


@pytest.fixture(scope="module")
def schema(planted: Planted) -> Schema:
    return schema_of(planted[0])


def rows_of(schema: Schema, merge: Merge, evidence: Evidence) -> dict[str, dict[str, float]]:
    """Return victim -> column -> value."""
    found = dict(sides_of(merge, evidence))
    rows = design(schema, list(found.values()))
    names = [column.name for column in schema.columns]
    return {merge.members[i]: dict(zip(names, row, strict=True)) for (i, _), row in zip(found, rows, strict=True)}


def test_columns_are_those_of_the_pair_vector_then_those_of_the_recipe(schema: Schema) -> None:
    names = [column.name for column in schema.columns]
    assert tuple(names[: len(pair_vector_names())]) == pair_vector_names()
    assert names[-3:] == ["rho of the victim", "rho of the other", KEPT]
    assert sum(own.stop - own.start for own in schema.slices()) == len(names) == len(set(names))


@pytest.mark.parametrize(
    ("recipe", "share"),
    [
        (MergeRecipe("ta", norm="none"), 1.0),
        (MergeRecipe("ties", norm="ta"), 1.0),
        (MergeRecipe("mean", norm="none"), 0.0),
        (MergeRecipe("mean"), 2**0.5 - 1),
        (MergeRecipe("ties", norm="mean_source"), 2**0.5 - 1),
    ],
)
def test_a_loss_is_looked_at_where_the_recipe_lies_between_half_of_each_and_both(
    schema: Schema, recipe: MergeRecipe, share: float
) -> None:
    records, truth = planted_bank(Planting(loss_error=0.0, rhos=()))
    rows = rows_of(schema, Merge((A, B), recipe), evidence_of(records, (A, B)))
    for victim, other in ((A, B), (B, A)):
        whole, halved = (truth.retention(victim, other, operator) for operator in ("ta", "mean"))
        assert rows[victim][KEPT] == pytest.approx(halved + share * (whole - halved), abs=1e-5)


def test_losses_that_were_not_measured_are_unknown(schema: Schema) -> None:
    records, _ = planted_bank(Planting(rhos=()))
    rows = rows_of(schema, Merge((A, B), MergeRecipe("ta")), evidence_of(records, (A, B)))
    assert np.isnan(rows[A][KEPT])


def test_the_victim_comes_first_in_both_rows_of_a_pair(planted: Planted, schema: Schema) -> None:
    records, truth = planted
    rows = rows_of(schema, Merge((A, B), MergeRecipe("ta")), evidence_of(records, (A, B)))
    for victim, other in ((A, B), (B, A)):
        row = rows[victim]
        assert row[f"i: {FORCE_SIGNAL}"] == np.float32(truth.force[victim])
        assert row[f"j: {FORCE_SIGNAL}"] == np.float32(truth.force[other])
        assert row[f"i->j: {HARM_SIGNAL}"] == np.float32(truth.harm(victim, other))
        assert row[f"j->i: {HARM_SIGNAL}"] == np.float32(truth.harm(other, victim))
        assert row[f"ij: {PLACE_SIGNAL.removeprefix('symmetric:')}"] == np.float32(truth.conflict(A, B))


def test_it_does_not_matter_which_way_a_pair_was_measured(planted: Planted, schema: Schema) -> None:
    evidence = evidence_of(planted[0], (A, B))
    turned = Evidence(evidence.adapters, {(B, A): oriented(evidence.pairs, B, A)})
    merge = Merge((A, B), MergeRecipe("ta"))
    first, second = rows_of(schema, merge, evidence), rows_of(schema, merge, turned)
    for victim in (A, B):
        np.testing.assert_array_equal(list(first[victim].values()), list(second[victim].values()))


def test_the_recipe_is_told_from_the_victims_side(planted: Planted, schema: Schema) -> None:
    recipe = MergeRecipe("ties", rank=32, weights=(1.0, 3.0), pruned=({}, {"lower": 1.0, "upper": 0.5}))
    evidence = evidence_of(planted[0], (A, B), (0.1, 1.0))
    rows = rows_of(schema, Merge((A, B), recipe), evidence)
    assert rows[A]["operator ties"] == 1.0
    assert sum(value for name, value in rows[A].items() if name.startswith("operator ")) == 1.0
    # Without a norm rule it is the operator's own.
    assert rows[A]["norm mean_source"] == 1.0
    assert (rows[A]["share of the victim"], rows[A]["share of the other"]) == (0.25, 0.75)
    assert rows[B]["share of the victim"] == 0.75
    assert (rows[A]["pruned of the victim, lower"], rows[A]["pruned of the other, lower"]) == (0.0, 1.0)
    assert (rows[B]["pruned of the victim, upper"], rows[B]["pruned of the other, upper"]) == (0.5, 0.0)
    assert (rows[A]["rho of the victim"], rows[A]["rho of the other"]) == (np.float32(0.1), 1.0)
    assert rows[A]["rank over the larger member rank"] == 2.0
    assert rows[A]["rank over the sum of member ranks"] == 1.0


def test_an_unknown_operator_is_none_of_the_known_ones(planted: Planted, schema: Schema) -> None:
    rows = rows_of(schema, Merge((A, B), MergeRecipe("unheard of")), evidence_of(planted[0], (A, B)))
    recipe = {name: value for name, value in rows[A].items() if name.startswith(("operator ", "norm "))}
    assert set(recipe.values()) == {0.0}
    assert np.isnan(rows[A]["rank over the larger member rank"])


def test_families_that_are_not_read_are_blank(planted: Planted) -> None:
    schema = schema_of(planted[0], {Family.GEOMETRY})
    rows = rows_of(schema, Merge((A, B), MergeRecipe("ta", rank=16)), evidence_of(planted[0], (A, B)))
    known = {column.family for column in schema.columns if np.isfinite(rows[A][column.name])}
    assert known == {Family.GEOMETRY.value, RECIPE}


def test_what_is_missing_is_found_and_blanked(planted: Planted, schema: Schema) -> None:
    evidence = evidence_of(planted[0], (A, B))
    assert missing_of(schema, evidence) == frozenset()
    values = evidence.adapters[A].values.copy()
    values[[CALIBRATION in column.needs for column in schema.adapter]] = np.nan
    assert missing_of(schema, with_adapters(evidence, **{A: AdapterEvidence(values, 1.0)})) == {CALIBRATION, CROSS_TASK}
    values = evidence.adapters[A].values.copy()
    values[[METADATA in column.needs for column in schema.adapter]] = np.nan
    assert missing_of(schema, with_adapters(evidence, **{A: AdapterEvidence(values, 1.0)})) == {METADATA}
    # Some unknown columns, such as slopes of an adapter without checkpoints, are no missing need.
    values = evidence.adapters[A].values.copy()
    values[[column.family == Family.DYNAMICS.value for column in schema.adapter]] = np.nan
    assert missing_of(schema, with_adapters(evidence, **{A: AdapterEvidence(values, 1.0)})) == frozenset()


@pytest.mark.parametrize("signals", SIGNALS)
def test_a_blank_column_is_one_whose_signal_needs_what_is_missing(schema: Schema, signals: str) -> None:
    records, _ = planted_bank(Planting(loss_error=0.1, rhos=()))
    merge, evidence = Merge((A, B), MergeRecipe("ta", rank=16)), evidence_of(records, (A, B))
    rows = design(schema, [side for _, side in sides_of(merge, evidence)])
    seen = blanked(rows, schema, SIGNALS[signals])
    lost = [bool(column.needs & SIGNALS[signals]) for column in schema.columns]
    assert np.isnan(seen[:, lost]).all()
    np.testing.assert_array_equal(seen[:, np.logical_not(lost)], rows[:, np.logical_not(lost)])
    assert any(lost) == bool(SIGNALS[signals])
    assert np.isfinite(rows).all()


def test_what_is_not_known_has_a_name(planted: Planted, schema: Schema) -> None:
    evidence = evidence_of(planted[0], (A, B))
    with pytest.raises(EvidenceMissing, match="math-2"):
        rows_of(schema, Merge((A, "math-2"), MergeRecipe("ta")), evidence)
    apart = Evidence(evidence.adapters, {})
    with pytest.raises(EvidenceMissing, match="were not compared"):
        rows_of(schema, Merge((A, B), MergeRecipe("ta")), apart)
    short = with_adapters(evidence, **{A: AdapterEvidence(np.zeros(3), 1.0)})
    with pytest.raises(SchemaMismatch, match="Got 3 features of an adapter"):
        rows_of(schema, Merge((A, B), MergeRecipe("ta")), short)


def test_a_merge_has_two_members_or_more_and_parts_for_each() -> None:
    with pytest.raises(PredictorError, match="two or more"):
        Merge((A,), MergeRecipe("ta"))
    with pytest.raises(PredictorError, match="two or more"):
        Merge((A, A), MergeRecipe("ta"))
    with pytest.raises(PredictorError, match="one part a member"):
        Merge((A, B), MergeRecipe("ta", weights=(1.0,)))


def test_actions_are_those_of_labels() -> None:
    assert MergeRecipe("ta").action == "merge"
    assert MergeRecipe("ta", weights=(2.0, 2.0)).action == "merge"
    assert MergeRecipe("ta", weights=(1.0, 0.5)).action == "reweight"
    assert MergeRecipe("ta", pruned=({}, {"lower": 0.0})).action == "merge"
    assert MergeRecipe("ta", weights=(1.0, 0.5), pruned=({}, {"lower": 1.0})).action == "prune"


def test_a_schema_comes_back_from_json_in_its_order(schema: Schema) -> None:
    again = Schema.from_json(json.loads(json.dumps(schema.as_json(), sort_keys=True)))
    assert again == schema
    assert list(again.operators) == list(schema.operators)
    assert replace(schema, version=schema.version + 1) != schema
