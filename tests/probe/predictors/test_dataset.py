"""Rows of records: sound labels only, each in every state of knowledge, and what is left out is counted."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from probe.bank.ceilings import Ceilings, plain_pairs
from probe.bank.records import FeatureRow, Records
from probe.predictors.dataset import (
    INCOMPLETE,
    PAIRS_WITHOUT_FEATURES,
    SETS_WITHOUT_FEATURES,
    pair_rows,
    schema_of,
    set_rows,
)
from probe.predictors.folds import adapter_folds
from probe.predictors.forecast import SchemaMismatch
from probe.predictors.labelled_merges import CONTROLS, UNSOUND, labelled_merges, recipe_of
from tests.planted_bank import Truth
from tests.probe.planted_records import planted_records

Planted = tuple[Records, Truth]
STATES = {(1.0, 1.0), (0.1, 0.1), (0.1, 1.0), (1.0, 0.1)}


def test_every_side_of_a_pair_is_a_label_in_every_state(planted: Planted) -> None:
    records, _ = planted
    rows = pair_rows(records, schema_of(records))
    labels = [label for label in records.labels if len(label.members) == 2]
    assert rows.num_labels == len(labels) > 500
    assert len(rows.retention) == len(STATES) * len(labels)
    assert set(zip(rows.rho_victim, rows.rho_other, strict=True)) == STATES
    assert rows.left_out == {}
    by_name = {(label.adapter, label.members, label.operator): label.retention.value for label in labels}
    for row in range(0, len(rows.retention), 97):
        members = tuple(sorted((str(rows.victim[row]), str(rows.other[row]))))
        assert rows.retention[row] == by_name[str(rows.victim[row]), members, str(rows.operator[row])]
        assert rows.newcomer[row] in members
    assert rows.is_finished.sum() == len(labels)


def test_safety_is_that_of_the_definition(planted: Planted) -> None:
    records, _ = planted
    rows, gains = pair_rows(records, schema_of(records)), Ceilings(records)
    wanted = {}
    for (members, operator), sides in list(plain_pairs(records).items())[:60]:
        kept = [side.retention.value for side in sides]
        weight = math.sqrt(math.prod(max(0.0, gains.normalised_gain(side.adapter)) for side in sides))
        wanted[members, operator] = min(kept) >= 0.85 and weight * sum(kept) / 2 >= 0.6
    assert 0 < sum(wanted.values()) < len(wanted)
    for row in range(len(rows.retention)):
        key = tuple(sorted((str(rows.victim[row]), str(rows.other[row])))), str(rows.operator[row])
        assert key not in wanted or rows.is_safe[row] == wanted[key]


def test_labels_without_a_sound_gain_are_left_out_and_counted(planted: Planted) -> None:
    records, _ = planted
    name = "code-0"
    weak = [
        replace(label, single_scores=label.base_scores) if label.adapter == name else label for label in records.labels
    ]
    rows = pair_rows(replace(records, labels=tuple(weak)), schema_of(records))
    merged = sum(label.adapter == name and len(label.members) > 1 for label in records.labels)
    assert rows.left_out == {UNSOUND: merged}
    assert name not in rows.victim
    assert name in rows.other
    # Whether such a merge is safe is not known: one side says nothing.
    assert np.isnan(rows.is_safe[rows.other == name]).all()
    sets = set_rows(replace(records, labels=tuple(weak)), schema_of(records))
    assert all(name not in row.merge.members for row in sets.rows)
    assert sets.left_out[INCOMPLETE] > 0


def test_controls_and_merges_without_features_are_left_out_and_counted(planted: Planted) -> None:
    records, _ = planted
    adapters = tuple(replace(one, method="random") if one.name == "math-0" else one for one in records.adapters)
    rows = pair_rows(replace(records, adapters=adapters), schema_of(records))
    assert "math-0" not in {*rows.victim.tolist(), *rows.other.tolist()}
    assert rows.left_out[CONTROLS] > 0
    apart = tuple(row for row in records.pair_features if "math-0" not in row.names)
    rows, sets = (make(replace(records, pair_features=apart), schema_of(records)) for make in (pair_rows, set_rows))
    assert rows.left_out[PAIRS_WITHOUT_FEATURES] == 2 * 2 * 19
    assert sets.left_out[SETS_WITHOUT_FEATURES] > 0


def test_a_set_is_seen_finished_early_and_with_its_newcomer_early(planted: Planted) -> None:
    records, _ = planted
    sets = set_rows(records, schema_of(records))
    merges = {label.members for label in records.labels if len(label.members) > 2}
    assert {row.merge.members for row in sets.rows} == merges
    for row in sets.rows:
        early = [name for name, rho in zip(row.merge.members, row.rhos, strict=True) if rho < 1]
        assert early in ([], [row.newcomer], list(row.merge.members))
        assert len(row.evidence.pairs) == len(row.rhos) * (len(row.rhos) - 1) / 2
    assert len(sets.rows) == 3 * len({row.label for row in sets.rows})


def test_a_pruned_label_tells_whose_band_was_left_out() -> None:
    records = planted_records(adapters_per_domain=1)
    label = next(label for label in records.labels if label.pruned == "math-0:upper")
    recipe = recipe_of(label)
    assert recipe.action == "prune"
    assert recipe.pruned is not None
    assert dict(zip(label.members, recipe.pruned, strict=True))["math-0"] == {"upper": 1.0}
    assert sum(bool(own) for own in recipe.pruned) == 1


def test_sides_of_one_merge_are_put_together() -> None:
    merges, left_out = labelled_merges(planted_records(adapters_per_domain=1))
    assert left_out[UNSOUND] == 2
    assert all(any(ret is not None for ret in one.retention) for one in merges)
    assert {one.merge.recipe.action for one in merges} == {"merge", "prune", "reweight"}


def test_records_of_another_schema_are_refused(planted: Planted) -> None:
    records, _ = planted
    other = replace(records, facts=replace(records.facts, feature_schema=99))
    with pytest.raises(SchemaMismatch, match="schema version 99"):
        schema_of(other)


def test_folds_are_even_spread_over_domains_and_keep_groups_together() -> None:
    adapters = planted_records(adapters_per_domain=5).adapters
    folds = adapter_folds(adapters, 5, seed=0)
    assert set(folds) == {one.name for one in adapters}
    sizes = [list(folds.values()).count(fold) for fold in range(5)]
    assert max(sizes) - min(sizes) <= 3
    for group in {one.group for one in adapters if one.group}:
        assert len({folds[one.name] for one in adapters if one.group == group}) == 1
    for domain in ("math", "science"):
        plain = [folds[f"{domain}-{k}"] for k in range(5)]
        assert len(set(plain)) >= 4
    assert adapter_folds(adapters, 5, seed=0) == folds
    assert adapter_folds(adapters, 5, seed=1) != folds


def test_an_early_row_holds_nothing_of_the_end(planted: Planted) -> None:
    records, _ = planted

    def spoilt(rows: tuple[FeatureRow, ...]) -> tuple[FeatureRow, ...]:
        return tuple(
            replace(row, values=dict.fromkeys(row.values, 5.0)) if min(row.rhos) == 1.0 else row for row in rows
        )

    other = replace(
        records, adapter_features=spoilt(records.adapter_features), pair_features=spoilt(records.pair_features)
    )
    first, second = (pair_rows(own, schema_of(own)) for own in (records, other))
    is_early = (first.rho_victim < 1) & (first.rho_other < 1)
    np.testing.assert_array_equal(first.design[is_early], second.design[is_early])
    assert not np.array_equal(first.design[~is_early], second.design[~is_early])
