"""Operators that read calibrated profiles: when a recipe may be carried out, and with which files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from probe.adapter_io import read_adapter
from probe.operators import MergeError
from probe.predictors.forecast import AdapterEvidence
from probe.profile_store import ProfileStore
from probe.profiles import profile_of
from router.records import Recipe
from serve.merging import MergeInterrupted
from serve.signals.calibrated import CalibratedProfiles
from serve.signals.evidence import AdapterMeasured
from tests import tiny
from tests.probe.calibrations import random_calibration
from tests.serve.bank import TinyBank
from tests.serve.test_controller import PlantedMerge
from tests.serve.test_rollback import placements


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[TinyBank]:
    bank = TinyBank(tmp_path, overrides={"policy__recipes": (("regmean", "none"),)}, merge=PlantedMerge())
    for name in "ab":
        folder = bank.source(name)
        bank.register(name, calibration=str(folder / "evaluation.jsonl"))
    yield bank
    bank.registry.close()


def calibrate(bank: TinyBank, name: str) -> Path:
    """Put what a calibration pass would leave behind; return the profile's file."""
    adapter, subjects = bank.registry.adapter(name), bank.bank.signals._subjects
    update = read_adapter(bank.config.store / "adapters" / adapter.revision)
    store = ProfileStore(subjects.evidence.profiles)
    store.get(name, lambda: profile_of(update, tiny.NUM_LAYERS, None, random_calibration(ord(name))))
    measured = AdapterMeasured(AdapterEvidence(np.zeros(1), 1.0), tuple(update.factors), 2, store.path(name).name)
    subjects.evidence.put_adapter(subjects.full(adapter), measured)
    return store.path(name)


def profiles(bank: TinyBank) -> CalibratedProfiles:
    return CalibratedProfiles(bank.registry, bank.bank.signals._subjects)


def recipe(bank: TinyBank, operator: str = "regmean") -> Recipe:
    members = tuple(sorted(adapter.revision for adapter in bank.registry.adapters()))
    return Recipe(operator, members, (1.0,) * len(members), "none", 8)


def test_an_operator_without_needs_reads_nothing(bank: TinyBank) -> None:
    assert profiles(bank)(recipe(bank, "ta")) == ()


def test_every_member_s_file_is_given_in_their_order(bank: TinyBank) -> None:
    files = {bank.registry.adapter(name).revision: calibrate(bank, name) for name in "ab"}
    asked = recipe(bank)
    assert profiles(bank)(asked) == tuple(files[member] for member in asked.members)


def test_a_profile_that_is_still_measured_makes_the_merge_wait(bank: TinyBank) -> None:
    calibrate(bank, "a")
    with pytest.raises(MergeInterrupted, match="waits for the calibrated profile of b"):
        profiles(bank)(recipe(bank))


def test_an_adapter_without_calibration_rows_can_never_be_merged_so(bank: TinyBank) -> None:
    bank.register("c")
    for name in "ab":
        calibrate(bank, name)
    with pytest.raises(MergeError, match="c has no calibration rows"):
        profiles(bank)(recipe(bank))


def test_a_member_that_is_gone_makes_the_merge_wait_for_the_next_plan(bank: TinyBank) -> None:
    gone = replace(recipe(bank), members=("0" * 64, "1" * 64))
    with pytest.raises(MergeInterrupted, match="removed or registered anew"):
        profiles(bank)(gone)


def test_the_controller_merges_by_such_an_operator_once_the_profiles_are_there(bank: TinyBank) -> None:
    bank.round()
    assert placements(bank) == {"a": "separate", "b": "separate"}
    assert [event.kind for event in bank.registry.events()].count("postponed") == 1
    for name in "ab":
        calibrate(bank, name)
    bank.round()
    assert placements(bank) == {"a": "merged", "b": "merged"}
    assert {route.operator for route in bank.registry.table().routes} == {"regmean"}
