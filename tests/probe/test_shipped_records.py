"""The records in the package say of themselves what they hold."""

from __future__ import annotations

from probe.bank.build import SHIPPED
from probe.bank.data_card import data_card
from probe.bank.gate import pilot_gate
from probe.bank.labelling.bank import CARD_FILE
from probe.bank.presets import PRESETS
from probe.bank.record_files import read_records

PILOT = SHIPPED / "pilot"


def test_the_pilot_gate_follows_from_the_pilots_records_and_is_passed() -> None:
    records = read_records(PILOT)
    table = tuple(row.as_json() for row in pilot_gate(records))
    assert table == tuple(records.facts.pilot)
    assert all(row["passed"] for row in table)


def test_the_pilots_records_are_of_the_pilot_and_its_card_is_theirs() -> None:
    records = read_records(PILOT)
    assert {adapter.name for adapter in records.adapters} == {recipe.name for recipe in PRESETS["pilot"].recipes}
    assert (PILOT / CARD_FILE).read_text(encoding="utf-8") == data_card(records)
