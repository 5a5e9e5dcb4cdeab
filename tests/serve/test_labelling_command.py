"""`mergeprobe bank label` and `bank verify` on a bank of two tiny adapters."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from probe.bank.record_files import read_records, write_records
from probe.reference import Reference
from serve.cli import app
from tests.probe.tiny_bank import write_bank, write_base

RUN = CliRunner()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base, a bank and its records."""
    made = tmp_path_factory.mktemp("labelled")
    write_bank(made / "bank", Reference(write_base(made / "base")), ("single", "shout"))
    assert label(made, "--only", "pairs").exit_code == 0
    return made


def label(folder: Path, *options: str) -> object:
    command = ["bank", "label", str(folder / "bank"), "--out", str(folder / "records"), "--preset", "tiny"]
    return RUN.invoke(app, [*command, "--base", str(folder / "base"), *options], catch_exceptions=False)


def verify(folder: Path, records: Path, *options: str) -> object:
    command = ["bank", "verify", "--records", str(records), "--bank", str(folder / "bank")]
    return RUN.invoke(app, [*command, "--base", str(folder / "base"), *options], catch_exceptions=False)


def test_label_writes_records_and_a_card_that_name_the_command(folder: Path) -> None:
    records = read_records(folder / "records")
    assert {label.members for label in records.labels if label.action == "merge"} == {("shout", "single")}
    assert records.facts.commands == ("mergeprobe bank label bank --out records --preset tiny --jobs 1",)
    assert "2 adapters" in (folder / "records" / "README.md").read_text()


def test_records_are_written_again_without_measuring(folder: Path) -> None:
    before = (folder / "records" / "labels.parquet").read_bytes()
    journal = (folder / "bank" / "labels" / "labels.jsonl").read_bytes()
    (folder / "records" / "labels.parquet").unlink()
    done = label(folder, "--only", "records")
    assert "labels of merges" in done.output
    assert (folder / "records" / "labels.parquet").read_bytes() == before
    assert (folder / "bank" / "labels" / "labels.jsonl").read_bytes() == journal


@pytest.mark.parametrize("options", [("--preset", "no such"), ("--only", "no such")])
def test_a_wrong_name_is_answered_with_the_right_ones(folder: Path, options: tuple[str, str]) -> None:
    done = RUN.invoke(app, ["bank", "label", str(folder / "bank"), "--out", str(folder / "x"), *options])
    assert done.exit_code == 2
    assert "pilot" in done.output
    assert "features" in done.output


def test_presets_are_listed(tmp_path: Path) -> None:
    done = RUN.invoke(app, ["bank", "label", str(tmp_path), "--out", str(tmp_path), "--preset", "list"])
    assert done.output.split() == ["cpu", "demo", "held-out", "large", "pilot", "tiny"]


def test_verify_passes_on_what_was_measured(folder: Path) -> None:
    done = verify(folder, folder / "records", "--json", "--count", "3")
    told = json.loads(done.stdout)
    assert done.exit_code == 0
    assert told["passed"] is True
    assert told["degrees_of_freedom"] == 6
    assert [one["num_flipped"] for one in told["labels"]] == [0, 0, 0]
    assert "the records stand" in verify(folder, folder / "records", "--count", "2").output


def test_verify_fails_on_scores_of_something_else(folder: Path, tmp_path: Path) -> None:
    records = read_records(folder / "records")
    lied = [replace(one, merged_scores=tuple(1 - score for score in one.merged_scores)) for one in records.labels]
    write_records(tmp_path, replace(records, labels=tuple(lied)))
    done = verify(folder, tmp_path)
    assert done.exit_code == 1
    assert "NOT" in done.output
