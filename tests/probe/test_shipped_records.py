"""The records in the package say of themselves what they hold."""

from __future__ import annotations

from probe.bank.build import SHIPPED
from probe.bank.data_card import data_card
from probe.bank.gate import pilot_gate
from probe.bank.labelling.bank import CARD_FILE
from probe.bank.presets import PRESETS
from probe.bank.record_files import SHIPPED_HELD_OUT, SHIPPED_RECORDS, read_records

PILOT = SHIPPED / "pilot"
MAX_BYTES = 20 << 20
"""Of all records in the package."""


def test_the_pilot_gate_follows_from_the_pilots_records_and_is_passed() -> None:
    records = read_records(PILOT)
    table = tuple(row.as_json() for row in pilot_gate(records))
    assert table == tuple(records.facts.pilot)
    assert all(row["passed"] for row in table)


def test_the_pilots_records_are_of_the_pilot_and_its_card_is_theirs() -> None:
    records = read_records(PILOT)
    assert {adapter.name for adapter in records.adapters} == {recipe.name for recipe in PRESETS["pilot"].recipes}
    assert (PILOT / CARD_FILE).read_text(encoding="utf-8") == data_card(records)


def test_the_measured_bank_is_that_of_its_preset_and_its_card_is_its_own() -> None:
    records = read_records(SHIPPED_RECORDS)
    assert {adapter.name for adapter in records.adapters} == {recipe.name for recipe in PRESETS["cpu"].recipes}
    assert records.facts.bank == "cpu"
    assert records.facts.pilot == read_records(PILOT).facts.pilot
    assert (SHIPPED_RECORDS / CARD_FILE).read_text(encoding="utf-8") == data_card(records)


def test_no_predictor_was_fitted_on_the_held_out_bank() -> None:
    records, fitted = read_records(SHIPPED_HELD_OUT), read_records(SHIPPED_RECORDS)
    assert {adapter.name for adapter in records.adapters} == {recipe.name for recipe in PRESETS["held-out"].recipes}
    for key in ("name", "revision", "row_set"):
        seen, new = ({getattr(one, key) for one in bank.adapters} for bank in (fitted, records))
        assert not seen & new, key
    assert (SHIPPED_HELD_OUT / CARD_FILE).read_text(encoding="utf-8") == data_card(records)


def test_records_are_small_enough_for_a_package() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.glob("*/*.parquet")) < MAX_BYTES


def test_no_label_is_of_an_adapter_that_is_not_recorded() -> None:
    records = read_records(SHIPPED_RECORDS)
    names = {adapter.name for adapter in records.adapters}
    for label in records.labels:
        assert names.issuperset((*label.members, label.adapter))
        assert len(label.base_scores) == len(label.single_scores) == label.num_rows >= 96
