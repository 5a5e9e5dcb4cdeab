"""The journal of features: what was measured comes back, and what is of other adapters does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from probe.bank.labelling import feature_journal
from probe.bank.labelling.feature_journal import FeatureJournal
from probe.bank.labelling.members import Member
from probe.bank.labelling.plan import LABEL_PLANS
from probe.bank.labelling.workplace import Workplace
from probe.bank.records import FeatureRow
from probe.calibration import Displacements
from probe.profiles import JointLoss
from tests.probe.planted import adapter

BASE = {0: 4.0, 1: 16.0}
OF_A = Displacements(BASE, {("a", 1.0): {0: 1.0, 1: 4.0}, ("b", 0.1): {0: 4.0, 1: 1.0}}, 8)
MORE = Displacements(BASE, {("a", 0.1): {0: 1.0, 1: 1.0}, ("c", 1.0): {0: 9.0, 1: 0.0}}, 8)

LOSS = JointLoss(of_base=3.0, of_own=1.0, of_sum=2.0, of_mean=1.5, num_rows=4)


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path, tmp_path / "work", tmp_path, "cpu", LABEL_PLANS["tiny"])


@pytest.fixture
def members(tmp_path: Path) -> dict[str, Member]:
    return {name: Member(adapter(name, "math"), tmp_path / name) for name in ("a", "b", "c")}


def retrained(members: Mapping[str, Member], name: str) -> dict[str, Member]:
    record = replace(members[name].record, revision="another revision")
    return {**members, name: replace(members[name], record=record)}


def test_what_one_does_on_the_rows_of_another_is_put_together(place: Workplace, members: dict[str, Member]) -> None:
    journal = FeatureJournal(place, members)
    journal.append_displacements("a", OF_A)
    journal.append_displacements("a", MORE)
    journal.append_losses(("a", 1.0), {("b", 0.1): LOSS})
    journal.append_losses(("a", 0.1), {("b", 0.1): replace(LOSS, of_own=1.5), ("c", 1.0): LOSS})
    for known in (journal, FeatureJournal(place, members)):
        found = known.cross_task(("b", 0.1), ("a", 1.0))
        assert found.shift.of_base == {0: 1.0, 1: 0.25}
        assert found.shift.of_own == {0: 2.0, 1: 0.5}
        assert found.shift.num_rows == 8
        assert found.loss == LOSS
        assert known.cross_task(("b", 0.1), ("a", 0.1)).shift.of_own == {0: 2.0, 1: 1.0}
        assert known.cross_task(("b", 0.1), ("a", 0.1)).loss.of_own == 1.5
        assert known.has_loss(("a", 0.1), ("c", 1.0))
        assert not known.has_loss(("a", 1.0), ("c", 1.0))
        assert not known.has_loss(("b", 0.1), ("a", 1.0))
        assert known.has_displacement("a", ("c", 1.0))
        assert not known.has_displacement("a", ("c", 0.1))
        assert not known.has_displacement("b", ("a", 1.0))


def test_rows_come_back_by_names_and_shares(place: Workplace, members: dict[str, Member]) -> None:
    journal = FeatureJournal(place, members)
    rows = [FeatureRow(("a", "b"), rhos, {"x": rhos[0]}) for rhos in ((1.0, 0.1), (0.1, 1.0))]
    for row in (*rows, FeatureRow(("a",), (1.0,), {"y": 2.0})):
        journal.append(row)
    again = FeatureJournal(place, members)
    assert again.of_pairs() == (rows[1], rows[0])
    assert again.of_adapters() == (FeatureRow(("a",), (1.0,), {"y": 2.0}),)
    assert again.has_row(("a", "b"), (1.0, 0.1))
    assert not again.has_row(("a", "b"), (1.0, 1.0))


def test_what_is_of_other_content_is_measured_again(place: Workplace, members: dict[str, Member]) -> None:
    journal = FeatureJournal(place, members)
    journal.append(FeatureRow(("a",), (1.0,), {}))
    journal.append_displacements("a", OF_A)
    journal.append_losses(("a", 1.0), {("b", 0.1): LOSS, ("c", 1.0): LOSS})
    changed = FeatureJournal(place, retrained(members, "b"))
    assert changed.has_row(("a",), (1.0,))
    assert changed.has_displacement("a", ("a", 1.0))
    assert not changed.has_displacement("a", ("b", 0.1))
    assert changed.has_loss(("a", 1.0), ("c", 1.0))
    assert not changed.has_loss(("a", 1.0), ("b", 0.1))
    for other in (
        FeatureJournal(place, retrained(members, "a")),
        FeatureJournal(replace(place, spec=replace(place.spec, calibration_rows=5)), members),
        FeatureJournal(place, {name: member for name, member in members.items() if name != "a"}),
    ):
        assert not other.has_row(("a",), (1.0,))
        assert not other.has_displacement("a", ("a", 1.0))
        assert not other.has_loss(("a", 1.0), ("c", 1.0))


def test_rows_of_another_feature_schema_are_measured_again_but_not_what_they_are_made_of(
    place: Workplace, members: dict[str, Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = FeatureJournal(place, members)
    journal.append(FeatureRow(("a",), (1.0,), {}))
    journal.append_displacements("a", OF_A)
    monkeypatch.setattr(feature_journal, "SCHEMA_VERSION", feature_journal.SCHEMA_VERSION + 1)
    later = FeatureJournal(place, members)
    assert not later.has_row(("a",), (1.0,))
    assert later.has_displacement("a", ("a", 1.0))
