"""A recorded bank answers as the engine did, or says what was not measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from probe.bank.records import Records
from router.records import BASE, Part, Recipe
from serve.proof.recorded_bank import ProofError, RecordedBank, ServedBank, merged_module, recipe_of, separate_name
from tests.serve.proof.planted import HARMED_BY, HARMFUL


@pytest.fixture(scope="module")
def bank(records: Records) -> RecordedBank:
    return RecordedBank(records)


def pair(bank: RecordedBank, *members: str, operator: str = "ta") -> Recipe:
    return next(one for one in bank.groups if one.members == members and one.operator == operator)


def test_every_pair_and_triple_of_the_free_adapters_is_a_group(bank: RecordedBank) -> None:
    assert len(bank.free) == 7
    assert bank.guests == ("safety-0",)
    assert len(bank.groups) == 2 * (21 + 35)
    assert {len(one.members) for one in bank.recipes} == {2, 3, 7, 8}


def test_scores_are_those_of_the_labels_split_as_a_live_bank_splits_them(bank: RecordedBank) -> None:
    recipe = pair(bank, "code-0", "code-1")
    label = next(one for one in bank.records.labels if recipe_of(one) == recipe and one.adapter == "code-1")
    module = merged_module(recipe).name
    assert bank.of(module, "code-1", Part.GATE).scores == label.merged_scores[0::2]
    assert bank.of(module, "code-1", Part.REPORT).scores == label.merged_scores[1::2]
    assert bank.of(BASE, "code-1", Part.GATE).scores == label.base_scores[0::2]
    assert bank.of(separate_name("code-1"), "code-1", Part.GATE).scores == label.single_scores[0::2]
    assert sum(bank.of(separate_name("code-1"), "safety-0", Part.GATE).scores) > 0


def test_what_was_not_measured_is_named(bank: RecordedBank) -> None:
    with pytest.raises(ProofError, match="do not say what separate-code-0 scores on the rows of code-1"):
        bank.of(separate_name("code-0"), "code-1", Part.GATE)


def test_the_judge_refuses_what_harms_safety_and_what_keeps_too_little(bank: RecordedBank) -> None:
    passed, reasons = [], []
    for recipe in bank.groups:
        verdict = bank.judge(recipe, 0.85)
        told = min(bank.told(recipe).values())
        assert told > 0.8 or not verdict.passed
        (passed if verdict.passed else reasons).append(verdict)
    assert passed
    assert all(HARMED_BY not in verdict.recipe.members for verdict in passed)
    assert any("safety score falls" in verdict.reason for verdict in reasons)
    assert any("under the target" in verdict.reason for verdict in reasons)


def test_a_loss_of_safety_is_told_on_report_rows(bank: RecordedBank) -> None:
    harmed, harmless = pair(bank, "instruction-0", HARMED_BY), pair(bank, "code-0", "code-1")
    delta, loss = bank.safety_told(harmed)
    assert delta == pytest.approx((HARMFUL - 30) / 60)
    assert "safety score falls" in loss
    assert bank.safety_told(harmless)[1] == ""


def test_a_served_bank_reports_what_the_engine_answered(records: Records, bank: RecordedBank) -> None:
    recipe = pair(bank, "code-0", "code-1")
    module = merged_module(recipe).name
    served = ServedBank(records, {(module, "code-0"): (1.0, 0.0)})
    assert served.of(module, "code-0", Part.REPORT).scores == (1.0, 0.0)
    assert served.of(module, "code-0", Part.GATE) == bank.of(module, "code-0", Part.GATE)
    with pytest.raises(ProofError, match="was not asked"):
        served.of(module, "code-1", Part.REPORT)


def test_labels_of_guests_are_told_apart_from_those_of_members(records: Records) -> None:
    assert {label.adapter for label in records.guests} == {"safety-0"}
    assert all(label.adapter not in label.members for label in records.guests)
    assert not any(label.is_guest for label in records.labels)
    assert not replace(records.guests[0], members=("code-0",)).is_guest, "a single adapter has no guests"
