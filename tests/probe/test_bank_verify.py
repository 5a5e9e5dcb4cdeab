"""Labels are recomputed on rows that the bank's preset makes again, where none lie beside the adapter."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from probe.bank.adapter_folder import EVALUATION_FILE, RECORD_FILE
from probe.bank.labelling.bank import label_bank
from probe.bank.labelling.plan import LABEL_PLANS
from probe.bank.labelling.sessions import Session
from probe.bank.labelling.workplace import Workplace
from probe.bank.material import evaluation_rows
from probe.bank.measuring import Evaluator
from probe.bank.presets import PRESETS
from probe.bank.records import Records
from probe.bank.verify import VerifyError, verify
from probe.reference import Reference
from probe.rows import write_rows
from tests.probe.tiny_bank import write_bank, write_base

NAMES = {"double": "math-sums", "upper": "instruction-repeats"}
"""Trained adapter -> adapter of the preset whose name and rows it gets."""
SESSION = Session("2026-01-02", "mergeprobe bank label tiny --out records", "a test", {"python": "3"})


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Records, Path, Evaluator]:
    """Labels of a pair that were measured on the preset's rows, and the bank, from which these rows are gone."""
    base, work, bank = (tmp_path_factory.mktemp(name) for name in ("base", "work", "bank"))
    reference, preset = Reference(write_base(base)), PRESETS["tiny"]
    write_bank(bank, reference, tuple(NAMES))
    for taken, name in NAMES.items():
        folder = (bank / taken).rename(bank / name)
        fields = json.loads((folder / RECORD_FILE).read_text())
        (folder / RECORD_FILE).write_text(json.dumps(fields | {"name": name}))
        write_rows(folder / EVALUATION_FILE, evaluation_rows(preset, preset.recipe(name)))
    place = Workplace(bank, work, base, "cpu", LABEL_PLANS["tiny"])
    records = label_bank(place, work / "out", preset.name, SESSION, only=["pairs"])
    for rows in bank.glob(f"*/{EVALUATION_FILE}"):
        rows.unlink()
    return records, bank, Evaluator(reference)


def test_rows_that_do_not_lie_beside_are_made_by_the_preset(measured: tuple[Records, Path, Evaluator]) -> None:
    found = verify(*measured)
    assert {one.label.adapter for one in found.recomputed} == set(NAMES.values())
    assert found.statistic < 1e-3
    assert found.passed


def test_rows_of_another_preset_are_not_taken_for_them(measured: tuple[Records, Path, Evaluator]) -> None:
    records, bank, evaluator = measured
    with pytest.raises(VerifyError, match="nor the preset 'demo' gives them"):
        verify(replace(records, facts=replace(records.facts, bank="demo")), bank, evaluator)


def test_other_rows_beside_are_not_taken_for_them(measured: tuple[Records, Path, Evaluator]) -> None:
    records, bank, evaluator = measured
    other = PRESETS["tiny"].recipe("code-calls")
    for folder in bank.iterdir():
        write_rows(folder / EVALUATION_FILE, evaluation_rows(PRESETS["tiny"], other))
    assert verify(records, bank, evaluator).passed
