"""Plans are served module by module; a stopped run goes on. An offline model answers in the engine's place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from probe.bank.labelling.bank import label_bank
from probe.bank.labelling.measurement import Stage
from probe.bank.labelling.plan import LabelPlan, planned
from probe.bank.labelling.sessions import Session
from probe.bank.labelling.workplace import Workplace
from probe.bank.record_files import read_records
from probe.reference import Reference
from probe.rows import Row
from probe.scoring import grade_all
from router.records import BASE
from serve.proof.engine import questions, read_scores, served_scores
from serve.proof.recorded_bank import ProofError, RecordedBank, merged_module, separate_name
from tests.probe.tiny_bank import rows_of, write_bank, write_base

FREE = ("double", "single", "upper")


class StoppedError(Exception):
    """Stands for the end of the process."""


@dataclass
class Offline:
    """Answers with transformers and PEFT."""

    reference: Reference
    most: int = 1000
    asked: list[tuple[str, int]] = field(default_factory=list)

    def scores(self, module: str, folder: Path | None, rows: Sequence[Row]) -> tuple[float, ...]:
        if len(self.asked) == self.most:
            raise StoppedError
        self.asked.append((module, len(rows)))
        return tuple(outcome.score for outcome in grade_all(rows, self.reference.answers(rows, folder)))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return Reference(write_base(tmp_path_factory.mktemp("base")))


@pytest.fixture(scope="module")
def folder(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bank(tmp_path_factory.mktemp("bank"), reference)


@pytest.fixture(scope="module")
def bank(folder: Path, reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> RecordedBank:
    work = tmp_path_factory.mktemp("labels")
    base = Path(reference.model.config.name_or_path)
    place = Workplace(folder, work, base, "cpu", LabelPlan(num_rows=8, max_rows=8, rank=8, is_proof=True))
    label_bank(place, work / "out", "held-out", Session("2026-01-02", "", "a test", {}), only=("proof",))
    return RecordedBank(read_records(work / "out"))


def test_every_question_of_the_plans_is_asked_once_on_rows_that_no_label_knows(
    bank: RecordedBank, folder: Path, reference: Reference, tmp_path: Path
) -> None:
    recipe = next(one for one in bank.groups if one.members == FREE)
    plans, journal, offline = [(), (recipe,), (recipe,)], tmp_path / "served.jsonl", Offline(reference)
    served = served_scores(bank, plans, folder, journal, lambda: offline)
    assert set(served) == set(questions(bank, plans))
    assert len(offline.asked) == len(served)
    assert {count for _, count in offline.asked} == {len(rows_of("double")) - 8}
    merged = merged_module(recipe).name
    assert {name for module, name in served if module == merged} == {*FREE, "shout"}
    assert {name for module, name in served if module == BASE} == {*FREE, "shout"}
    assert served[separate_name("double"), "double"] == (1.0,) * 4, "it has learnt them all"
    assert served_scores(bank, plans, folder, journal, lambda: pytest.fail("nothing is left to ask")) == served


def test_a_stopped_run_goes_on(bank: RecordedBank, folder: Path, reference: Reference, tmp_path: Path) -> None:
    plans, journal = [(bank.groups[0],)], tmp_path / "served.jsonl"
    with pytest.raises(StoppedError):
        served_scores(bank, plans, folder, journal, lambda: Offline(reference, most=3))
    rest = Offline(reference)
    served = served_scores(bank, plans, folder, journal, lambda: rest)
    assert len(rest.asked) == len(questions(bank, plans)) - 3
    assert served == served_scores(bank, plans, folder, tmp_path / "again.jsonl", lambda: Offline(reference))


def test_a_torn_line_is_asked_again(bank: RecordedBank, folder: Path, reference: Reference, tmp_path: Path) -> None:
    journal = tmp_path / "served.jsonl"
    whole = served_scores(bank, [()], folder, journal, lambda: Offline(reference))
    journal.write_bytes(journal.read_bytes()[:-9])
    again = Offline(reference)
    assert served_scores(bank, [()], folder, journal, lambda: again) == whole
    assert len(again.asked) == 1


def test_answers_of_other_adapters_are_not_taken_for_these(
    bank: RecordedBank, folder: Path, reference: Reference, tmp_path: Path
) -> None:
    journal = tmp_path / "served.jsonl"
    served_scores(bank, [()], folder, journal, lambda: Offline(reference))
    rebuilt = tuple(replace(one, revision=f"new-{one.revision}") for one in bank.records.adapters)
    with pytest.raises(ProofError, match="other adapters"):
        read_scores(RecordedBank(replace(bank.records, adapters=rebuilt)), journal)


def test_every_protected_adapter_is_asked_the_rows_of_the_others(bank: RecordedBank) -> None:
    adapters = tuple(replace(one, is_protected=one.name in ("shout", "upper")) for one in bank.records.adapters)
    asked = questions(RecordedBank(replace(bank.records, adapters=adapters)), [()])
    assert {(separate_name("shout"), "upper"), (separate_name("upper"), "shout")} <= set(asked)
    of_plan = [one for one in planned(adapters, LabelPlan(is_proof=True)) if one.stage == Stage.PROOF]
    assert {(("shout",), ("upper",)), (("upper",), ("shout",))} <= {(one.members, one.asked) for one in of_plan}


def test_another_bank_is_refused(bank: RecordedBank, reference: Reference, tmp_path: Path) -> None:
    other = write_bank(tmp_path, reference, ("double", "single"))
    with pytest.raises(ProofError, match="does not hold"):
        served_scores(bank, [()], other, tmp_path / "served.jsonl", lambda: Offline(reference))
