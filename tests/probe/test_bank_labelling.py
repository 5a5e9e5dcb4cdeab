"""A bank is labelled once: killed, resumed and shared work ends in the same records."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from probe.bank.data_card import data_card
from probe.bank.labelling import follow_up
from probe.bank.labelling.bank import PARTS, label_bank
from probe.bank.labelling.follow_up import open_labels
from probe.bank.labelling.journal import JournalError
from probe.bank.labelling.members import BankError, read_bank
from probe.bank.labelling.plan import LABEL_PLANS, LabelPlan
from probe.bank.labelling.sessions import Session
from probe.bank.labelling.workplace import Workplace
from probe.bank.measuring import Evaluator
from probe.bank.record_files import DERIVED, read_records, write_records
from probe.bank.records import Label, Records
from probe.bank.verify import VerifyError, verify
from probe.predictors.labelled_merges import module_of
from probe.reference import Reference
from tests.probe.tiny_bank import write_bank, write_base

SESSION = Session("2026-01-02", "mergeprobe bank label tiny --out records", "a test", {"python": "3"})


class KilledError(Exception):
    """Stands for the end of the process."""


@pytest.fixture(scope="module", autouse=True)
def _wide_verdicts() -> Iterator[None]:
    """Leave verdicts open for longer: six rows open hardly any in so small a bank: no further row would be asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(follow_up, "CLOSE", 6.0)
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def bank(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bank(tmp_path_factory.mktemp("bank"), Reference(base))


Place = Callable[[Path], Workplace]


@pytest.fixture(scope="module")
def place(base: Path, bank: Path) -> Place:
    return lambda work: Workplace(bank, work, base, "cpu", LABEL_PLANS["tiny"])


@pytest.fixture(scope="module")
def records(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Records:
    folder = tmp_path_factory.mktemp("labels")
    return label_bank(place(folder / "work"), folder / "out", "tiny", SESSION)


def timeless(records: Records) -> Records:
    return replace(records, labels=tuple(replace(label, seconds=0.0) for label in records.labels))


def stored(folder: Path, records: Records) -> dict[str, bytes]:
    """Return the bytes of every file of records, but for the time that measuring took."""
    write_records(folder, timeless(records))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_pair_and_set_is_labelled_for_every_member(records: Records) -> None:
    merges = [label for label in records.labels if label.action != "single"]
    assert len(merges) >= 12
    pairs = {label.members for label in merges if len(label.members) == 2}
    assert len(pairs) == 6
    for pair in pairs:
        for operator in ("ta", "mean"):
            asked = {one.adapter for one in merges if one.members == pair and one.operator == operator}
            assert asked == set(pair)
    assert {len(label.members) for label in merges} == {2, 3, 4}
    assert {label.action for label in merges} == {"merge", "reweight", "prune"}


def test_labels_are_sound_and_merging_costs_something(records: Records) -> None:
    merges = [label for label in records.labels if label.action == "merge"]
    assert sum(label.is_sound for label in merges) > len(merges) / 2
    assert min(label.retention.value for label in merges if label.is_sound) < 0.85
    assert all(len(label.base_scores) == label.num_rows == len(label.single_log_likelihoods) for label in merges)


def test_more_rows_are_asked_where_the_verdict_is_open(records: Records) -> None:
    spec = LABEL_PLANS["tiny"]
    modules: dict[tuple[object, ...], list[Label]] = {}
    for label in records.labels:
        if label.action != "single":
            modules.setdefault(module_of(label), []).append(label)
    for labels in modules.values():
        opened = {label.adapter for label in open_labels([_of_first_rows(label, spec.num_rows) for label in labels])}
        for label in labels:
            assert label.num_rows == (spec.max_rows if label.adapter in opened else spec.num_rows)
    assert {label.num_rows for label in records.labels} == {spec.num_rows, spec.max_rows}


def _of_first_rows(label: Label, count: int) -> Label:
    return replace(
        label,
        base_scores=label.base_scores[:count],
        single_scores=label.single_scores[:count],
        merged_scores=label.merged_scores[:count],
    )


def test_features_are_there_for_every_pair_and_share_of_training(records: Records) -> None:
    adapters = {(row.names, row.rhos) for row in records.adapter_features}
    assert (("upper",), (0.05,)) in adapters
    assert {rhos for names, rhos in adapters if names == ("double",)} == {(1.0,)}
    pairs = [(row.names, row.rhos) for row in records.pair_features]
    assert len(pairs) == len(set(pairs))
    early = {rhos for (name,), rhos in adapters if name == "shout" for (rho,) in [rhos] if rho < 1}
    assert {rhos for names, rhos in pairs if names == ("shout", "upper")} == {
        *((rho, rho) for (rho,) in early),
        *((0.1, 1.0), (1.0, 0.1), (1.0, 1.0)),
    }
    assert {rhos for names, rhos in pairs if names == ("double", "upper")} == {
        (1.0, rho) for (rho,) in (*early, (1.0,))
    }
    assert len({names for names, _ in pairs}) == 6
    for row in (*records.adapter_features, *records.pair_features):
        known = sum(not math.isnan(value) for value in row.values.values())
        assert known > len(row.values) / 2


def test_a_shift_is_of_both_as_they_were(records: Records) -> None:
    """An early mover shifts less than a finished one, and the same against a small own displacement is more."""
    of_base, of_own = (f"forth:shift_of_{what}/all/mean" for what in ("base", "own"))
    rows = {row.rhos: row.values for row in records.pair_features if row.names == ("shout", "upper")}
    assert rows[0.1, 0.1][of_base] == rows[0.1, 1.0][of_base] < rows[1.0, 1.0][of_base] == rows[1.0, 0.1][of_base]
    assert rows[0.1, 1.0][of_own] < rows[1.0, 1.0][of_own] < rows[1.0, 0.1][of_own]


def test_an_early_share_tells_nothing_of_the_end(records: Records) -> None:
    """At 5 % the update is far smaller than at the end, in every number that measures its size."""
    energy = {row.rhos[0]: row.values["energy/all/mean"] for row in records.adapter_features if row.names == ("upper",)}
    assert energy[0.05] < energy[0.1] < energy[1.0] / 4


def test_the_same_seed_gives_the_same_records(place: Place, records: Records, tmp_path: Path) -> None:
    again = label_bank(place(tmp_path / "work"), tmp_path / "out", "tiny", SESSION)
    assert stored(tmp_path / "first", records) == stored(tmp_path / "again", again)


@pytest.mark.parametrize("num_done", [3, 20])
def test_killed_work_goes_on_and_measures_nothing_twice(
    place: Place, records: Records, tmp_path: Path, num_done: int
) -> None:
    seen = 0

    def die(doing: str, done: int, total: int) -> None:
        nonlocal seen
        seen += 1
        if seen == num_done:
            raise KilledError

    with pytest.raises(KilledError):
        label_bank(place(tmp_path / "work"), tmp_path / "out", "tiny", SESSION, only=PARTS[:-1], on_progress=die)
    journal = tmp_path / "work" / "labels.jsonl"
    before = journal.read_bytes()
    # A kill while a line is written leaves half of it.
    journal.write_bytes(before + before.splitlines()[-1][:40])
    partial = read_records(tmp_path / "out")
    assert len(partial.labels) < len(records.labels)
    whole = label_bank(place(tmp_path / "work"), tmp_path / "out", "tiny", SESSION, only=PARTS[:-1])
    lines = journal.read_bytes()
    assert lines.startswith(before)
    asked = [json.dumps(json.loads(line)["measurement"]) for line in lines.splitlines()]
    assert len(asked) == len(set(asked))
    assert repr(timeless(whole).labels) == repr(timeless(records).labels)  # NaN equals itself here


def test_several_processes_give_what_one_gives(place: Place, records: Records, tmp_path: Path) -> None:
    shared = label_bank(place(tmp_path / "work"), tmp_path / "out", "tiny", SESSION, jobs=2, only=["pairs"])
    wanted = {(label.members, label.adapter): label for label in timeless(records).labels if is_plain_pair(label)}
    assert {(one.members, one.adapter): one for one in timeless(shared).labels if is_plain_pair(one)} == wanted


def is_plain_pair(label: Label) -> bool:
    return len(label.members) == 2 and label.action == "merge" and label.operator == "ta"


def test_records_alone_are_no_run(place: Place, tmp_path: Path) -> None:
    work, out = place(tmp_path / "work"), tmp_path / "out"
    with pytest.raises(JournalError, match="label the bank first"):
        label_bank(work, out, "tiny", SESSION, only=["records"])
    label_bank(work, out, "tiny", SESSION, only=["own"])
    later = replace(SESSION, date="2027-01-01", command="mergeprobe bank label tiny --out elsewhere")
    records = label_bank(work, out, "tiny", later, only=["records"])
    assert (records.facts.last_date, records.facts.commands) == (SESSION.date, (SESSION.command,))


def test_a_changed_adapter_is_measured_again(place: Place, bank: Path, tmp_path: Path) -> None:
    work = place(tmp_path / "work")
    copy = replace(work, bank=tmp_path / "bank")
    shutil.copytree(bank, copy.bank)
    first = label_bank(copy, tmp_path / "out", "tiny", SESSION, only=["pairs"])
    shutil.copyfile(bank / "double" / "adapter_model.safetensors", copy.bank / "upper" / "adapter_model.safetensors")
    again = label_bank(copy, tmp_path / "out", "tiny", SESSION, only=["pairs"])
    changed = {(a.members, a.adapter) for a, b in zip(first.labels, again.labels, strict=True) if repr(a) != repr(b)}
    assert changed
    assert all("upper" in members for members, _ in changed)


def test_a_folder_without_adapters_is_no_bank(tmp_path: Path) -> None:
    with pytest.raises(BankError, match="build a bank first"):
        read_bank(tmp_path)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "adapter_config.json").write_text("{}")
    with pytest.raises(BankError, match="half"):
        read_bank(tmp_path)


@pytest.fixture(scope="module")
def evaluator(base: Path) -> Evaluator:
    return Evaluator(Reference(base))


def test_what_was_measured_verifies(records: Records, bank: Path, evaluator: Evaluator) -> None:
    found = verify(records, bank, evaluator)
    assert len(found.recomputed) == 10
    assert found.passed
    assert found.statistic < 1e-3
    other = verify(records, bank, evaluator, seed=1)
    assert {id(one.label) for one in other.recomputed} != {id(one.label) for one in found.recomputed}


def test_one_label_of_another_operator_among_ten_fails(records: Records, bank: Path, evaluator: Evaluator) -> None:
    drawn = [one.label for one in verify(records, bank, evaluator).recomputed]
    wrong = next(label for label in drawn if label.operator == "mean")
    swapped = replace(wrong, operator="dare", hyper_parameters={})
    lied = replace(records, labels=(swapped, *(label for label in drawn if label is not wrong)))
    found = verify(lied, bank, evaluator)
    assert len(found.recomputed) == 10
    assert not found.passed


def test_a_module_that_scores_nothing_is_told_apart_by_its_likelihoods(
    records: Records, bank: Path, evaluator: Evaluator
) -> None:
    nothing = [label for label in records.labels if is_merge(label) and sum(label.merged_scores) == 0]
    by_set = {(label.members, label.adapter, label.num_rows): label for label in nothing}
    mixed = [
        replace(label, merged_log_likelihoods=other.merged_log_likelihoods)
        for label in nothing
        if (other := by_set[label.members, label.adapter, label.num_rows]).operator != label.operator
        and other.merged_log_likelihoods != label.merged_log_likelihoods
    ]
    found = verify(replace(records, labels=tuple(mixed)), bank, evaluator, num_labels=1)
    assert [one.num_flipped for one in found.recomputed] == [0]
    assert not found.passed


def is_merge(label: Label) -> bool:
    return label.action == "merge" and label.operator not in ("fisher_core", "lego", "osrm_post")


def test_labels_of_other_adapters_cannot_be_verified(records: Records, tmp_path: Path, evaluator: Evaluator) -> None:
    with pytest.raises(VerifyError, match="--bank"):
        verify(records, tmp_path, evaluator)


def test_rows_that_are_neither_beside_nor_made_by_the_preset_are_named(
    records: Records, bank: Path, tmp_path: Path, evaluator: Evaluator
) -> None:
    shutil.copytree(bank, tmp_path / "bank")
    for rows in (tmp_path / "bank").glob("*/evaluation.jsonl"):
        rows.unlink()
    with pytest.raises(VerifyError, match="evaluation rows"):
        verify(records, tmp_path / "bank", evaluator)


def test_records_come_back_from_their_files(records: Records, tmp_path: Path) -> None:
    write_records(tmp_path, records)
    again = read_records(tmp_path)
    assert again.facts == records.facts
    assert again.adapters == records.adapters
    assert repr(again.labels) == repr(records.labels)  # NaN equals itself here
    for rows, known in (
        (again.adapter_features, records.adapter_features),
        (again.pair_features, records.pair_features),
    ):
        assert [(row.names, row.rhos) for row in rows] == [(row.names, row.rhos) for row in known]
        for row, wanted in zip(rows, known, strict=True):
            assert list(row.values) == list(wanted.values)
            assert list(row.values.values()) == pytest.approx(list(wanted.values.values()), nan_ok=True, rel=0, abs=0)


def test_the_data_card_tells_what_is_there(records: Records, tmp_path: Path) -> None:
    card = data_card(records)
    assert re.search(r"adapters of base\d+ \(llama, 2 layers of width 32, [\d,]+ weights\)", card)
    merges = [label for label in records.labels if label.action != "single"]
    unsound = sum(not label.is_sound for label in merges)
    assert f"{len(merges)} labels" in card
    assert f"{unsound} of them not sound" in card
    assert "4 adapters: case 1, repeat 2, safety 1" in card
    assert "`mergeprobe bank label tiny --out records`" in card
    assert all(f"`{column}`" in card for column in DERIVED)
    assert "Pilot gate" not in card
    table = ({"name": "highest base score", "measured": "0.10 (a)", "wanted": "<= 0.6", "passed": True},)
    assert "| highest base score | 0.10 (a) | <= 0.6 | yes |" in data_card(
        replace(records, facts=replace(records.facts, pilot=table))
    )


def test_a_proof_measures_every_group_and_what_it_does_to_the_protected(base: Path, bank: Path, tmp_path: Path) -> None:
    spec = LabelPlan(num_rows=6, max_rows=6, rank=8, is_proof=True)
    place = Workplace(bank, tmp_path / "work", base, "cpu", spec)
    label_bank(place, tmp_path / "out", "held-out", SESSION, only=("proof",))
    records = read_records(tmp_path / "out")
    groups = {(label.members, label.operator) for label in records.labels if len(label.members) in (2, 3)}
    free = ("double", "single", "upper")
    sets = [*combinations(free, 2), free]
    assert groups >= {(members, operator) for members in sets for operator in ("ta", "mean")}
    assert {label.members for label in records.labels} >= {("double", "shout", "single", "upper")}
    assert {label.adapter for label in records.guests} == {"shout"}
    assert {label.members for label in records.guests} == set(sets)
    alone = {label.members for label in records.labels if label.adapter == "shout" and len(label.members) == 1}
    assert alone == {("shout",), *((name,) for name in free)}
    harmed = next(label for label in records.guests if label.members == free)
    assert harmed.base_scores == next(one for one in records.labels if one.adapter == "shout").base_scores
