"""Records from a running bank: every verdict is a label, with the signals that were measured of its members."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from probe.bank.records import Label, Records
from probe.predictors.dataset import pair_rows, schema_of
from probe.predictors.fitting import TooFewLabels, fit
from probe.records import Pruned
from probe.retention import retention
from router.records import Part, Recipe, Verdict
from serve.registry_records import registry_records
from tests.serve.bank import NUM_ROWS, TinyBank


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[TinyBank]:
    """A bank in which b loses half of its gain whatever it is merged with, and the others keep everything."""
    bank = TinyBank(tmp_path, kept={"b": 0.5}, overrides={"policy__max_trials": 9, "policy__max_group_size": 2})
    bank.register("safety", domain="safety")
    for newcomers in ("ab", "c"):
        for name in newcomers:
            bank.register(name, domain="math")
        bank.round()
    bank.bank.signals.round()
    yield bank
    bank.registry.close()


def records(bank: TinyBank) -> Records:
    return registry_records(bank.config.registry, bank.config.signals_folder)


def merges(found: Records) -> list[Label]:
    return [label for label in found.labels if len(label.members) > 1]


def test_every_measured_member_of_a_verdict_is_a_label_with_the_same_retention(bank: TinyBank) -> None:
    names = {adapter.revision: adapter.name for adapter in bank.registry.adapters()}
    expected = {
        (names[member.revision], verdict.recipe.key): member
        for verdict in bank.registry.verdicts()
        if len(verdict.recipe.members) > 1
        for member in verdict.members
    }
    labels = merges(records(bank))
    assert len(labels) == len(expected) > 4
    assert {label.adapter for label in labels if label.retention.value < 0.85} == {"b"}
    for label in labels:
        assert label.members == tuple(sorted(label.members))
        assert label.action == "merge"
        assert label.weights is None
        is_shown = label.num_rows == NUM_ROWS
        gate = [m.gate for (name, _), m in expected.items() if name == label.adapter]
        assert is_shown or round(label.retention.value, 6) in [round(value or 0.0, 6) for value in gate]


def test_rows_that_only_report_make_a_label_less_noisy(bank: TinyBank) -> None:
    served = bank.registry.table().route("a").module
    label = next(one for one in merges(records(bank)) if one.adapter == "a" and one.num_rows == NUM_ROWS)
    rows = bank.registry.adapter("a").evaluation
    gate, report = (bank.registry.measurement(served, rows, part) for part in Part)
    assert gate is not None
    assert report is not None
    assert label.merged_scores == gate.scores + report.scores
    assert label.retention == retention(label.base_scores, label.single_scores, label.merged_scores)


def test_adapters_and_pairs_bring_their_signals_and_the_protected_none(bank: TinyBank) -> None:
    found = records(bank)
    assert [adapter.name for adapter in found.adapters] == ["a", "b", "c"]
    assert [row.names for row in found.adapter_features] == [("a",), ("b",), ("c",)]
    assert sorted(row.names for row in found.pair_features) == [("a", "b"), ("a", "c"), ("b", "c")]
    (row,) = [row for row in found.adapter_features if row.names == ("a",)]
    assert row.values["rank/all/value"] == 4
    assert row.values["is_math/all/value"] == 1
    singles = [label for label in found.labels if label.action == "single"]
    assert [(label.adapter, label.retention.value) for label in singles] == [("a", 1.0), ("b", 1.0), ("c", 1.0)]


def test_a_fit_reads_them(bank: TinyBank) -> None:
    found = records(bank)
    rows = pair_rows(found, schema_of(found))
    assert rows.num_labels == len(merges(found))
    assert not rows.left_out
    with pytest.raises(TooFewLabels, match=rf"{rows.num_labels} sound labels of merged pairs, of 3 adapters"):
        fit(found)


def test_labels_of_other_revisions_or_rows_are_left_out(bank: TinyBank) -> None:
    bank.register("b", seed=1, domain="math")
    bank.bank.signals.round()
    assert {label.members for label in merges(records(bank))} == {("a", "c")}
    bank.register("a", evaluation=str(bank.source("c") / "evaluation.jsonl"), domain="math")
    assert {label.adapter for label in merges(records(bank))} == {"c"}


def add(bank: TinyBank, **changes: object) -> None:
    """Store the verdict on a and c once more, as if another recipe had made that module."""
    known = {adapter.name: adapter.revision for adapter in bank.registry.adapters()}
    wanted = tuple(sorted((known["a"], known["c"])))
    verdict = next(one for one in bank.registry.verdicts() if one.recipe.members == wanted)
    recipe: Recipe = replace(verdict.recipe, **changes)
    bank.registry.put_verdict(replace(verdict, recipe=recipe))


def of_a_and_c(bank: TinyBank) -> list[Label]:
    return [label for label in merges(records(bank)) if label.members == ("a", "c")]


def test_weights_are_in_the_order_of_the_names(bank: TinyBank) -> None:
    known = {adapter.revision: adapter.name for adapter in bank.registry.adapters()}
    members = sorted(revision for revision, name in known.items() if name in "ac")
    lighter = known[members[0]]
    add(bank, weights=(0.25, 1.0))
    found = [label for label in of_a_and_c(bank) if label.weights]
    assert {label.action for label in found} == {"reweight"}
    assert {label.weights for label in found} == {(0.25, 1.0) if lighter == "a" else (1.0, 0.25)}


def test_a_pruned_band_is_told_and_what_the_words_cannot_say_is_left_out(bank: TinyBank) -> None:
    first = sorted(adapter.revision for adapter in bank.registry.adapters() if adapter.name in "ac")[0]
    name = next(adapter.name for adapter in bank.registry.adapters() if adapter.revision == first)
    before = len(of_a_and_c(bank))
    lower = [f"model.layers.0.self_attn.{module}_proj" for module in "qv"]
    upper = [f"model.layers.1.self_attn.{module}_proj" for module in "qv"]
    add(bank, pruned=tuple(Pruned(0, module) for module in lower))
    assert {label.pruned for label in of_a_and_c(bank)} == {None, f"{name}:lower"}
    whole = len(of_a_and_c(bank))
    assert whole > before
    for pruned in (
        (Pruned(0, lower[0]),),
        tuple(Pruned(place, lower[0]) for place in (0, 1)),
        (*(Pruned(0, module) for module in lower), *(Pruned(1, module) for module in upper)),
    ):
        add(bank, pruned=pruned)
    add(bank, weights=((1.0, 0.5, 0.5), 1.0))
    assert {label.pruned for label in of_a_and_c(bank)} - {None, f"{name}:lower"} <= {""}
    assert len([label for label in of_a_and_c(bank) if label.pruned != ""]) == whole


def test_a_merge_that_was_never_built_is_no_label(bank: TinyBank) -> None:
    before = len(merges(records(bank)))
    recipe = next(one.recipe for one in bank.registry.verdicts() if len(one.recipe.members) == 2)
    bank.registry.put_verdict(Verdict(replace(recipe, operator="ties"), "", False, "out of memory"))
    assert len(merges(records(bank))) == before


def test_what_is_not_known_of_the_training_is_not_made_up(bank: TinyBank) -> None:
    (adapter, *_) = records(bank).adapters
    assert math.isnan(adapter.learning_rate)
    assert (adapter.num_rows, adapter.method) == (0, "sft")


def test_without_signals_there_are_no_records_to_fit_to(tmp_path: Path) -> None:
    bank = TinyBank(tmp_path)
    for name in "ab":
        bank.register(name)
    bank.round()
    assert records(bank).labels == ()
    bank.registry.close()
