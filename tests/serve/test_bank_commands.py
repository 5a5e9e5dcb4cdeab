"""The whole way, by the commands that a person types: build, label, report, verify, on a bank of four."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from probe.bank.record_files import read_records
from probe.bank.records import Records
from serve.cli import app
from tests.probe.test_reference import write_character_base


def run(*words: str | Path, exit_code: int = 0) -> str:
    done = CliRunner().invoke(app, ["bank", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == exit_code, done.output
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base, a bank that was built and labelled, and the report on it."""
    place = tmp_path_factory.mktemp("bank")
    base = write_character_base(place / "base")
    run("build", "--preset", "tiny", "--out", place / "bank", "--base", base)
    run("label", place / "bank", "--out", place / "records", "--preset", "tiny", "--base", base)
    run("report", "--records", place / "records", "--out", place / "report")
    return place


@pytest.fixture(scope="module")
def records(place: Path) -> Records:
    return read_records(place / "records")


def test_four_adapters_give_a_label_of_every_member_of_every_pair(records: Records) -> None:
    assert len(records.adapters) == 4
    pairs = [label for label in records.labels if label.action == "merge" and len(label.members) == 2]
    assert {label.operator for label in pairs} >= {"ta", "mean"}
    assert {(label.members, label.adapter) for label in pairs} == {
        (label.members, name) for label in pairs for name in label.members
    }
    assert len(pairs) >= 2 * 12


def test_the_report_counts_what_the_records_hold(place: Path, records: Records) -> None:
    told = json.loads((place / "report" / "report.json").read_text())
    tables = {table["key"]: table["rows"] for section in told["sections"] for table in section["tables"]}
    kinds = Counter((x.action, len(x.members), x.operator) for x in records.labels if x.action == "merge")
    assert {tuple(row[:3]): row[3] for row in tables["labels"] if row[0] == "merge"} == kinds
    assert [row[0] for row in tables["adapters"]] == sorted(adapter.domain for adapter in records.adapters)
    assert "MERGE-PEFT, measured" in (place / "report" / "report.html").read_text()


def test_building_and_labelling_again_changes_nothing(place: Path) -> None:
    files = [*sorted((place / "records").iterdir()), place / "bank" / "labels" / "labels.jsonl"]
    before = [path.read_bytes() for path in files]
    run("build", "--preset", "tiny", "--out", place / "bank", "--base", place / "base")
    run("label", place / "bank", "--out", place / "records", "--preset", "tiny", "--base", place / "base")
    assert [path.read_bytes() for path in files] == before


def test_the_records_verify(place: Path) -> None:
    words = ("verify", "--records", place / "records", "--bank", place / "bank", "--base", place / "base", "--json")
    told = json.loads(run(*words))
    assert told["passed"] is True
    assert len(told["labels"]) == 10
