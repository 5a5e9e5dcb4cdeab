"""The command that evaluates predictors, over a folder of records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from probe.bank.record_files import write_records
from probe.records import MergeProbeError
from serve.cli import app
from tests.planted_bank import Planting, planted_bank


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    # Too few for a whole predictor, so it takes seconds.
    write_records(folder, planted_bank(Planting(per_domain=1))[0])
    return folder


def test_a_folder_of_records_becomes_a_report_and_json(records: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["evaluate", str(records), "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert {section["key"] for section in report["sections"]} >= {"regimes", "baselines", "coverage", "hypotheses"}
    assert {verdict["key"] for verdict in report["verdicts"]} >= {"H1", "H5", "H6, domains", "H6, operators", "H7"}
    assert {"report.md", "report.html", "report.json"} < {path.name for path in out.iterdir()}


def test_people_are_told_what_the_records_are_too_few_for(records: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["evaluate", str(records), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "No predictor could be fitted." in result.output
    assert "undecided" in result.output


def test_a_folder_without_records_is_an_error_of_ours(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["evaluate", str(tmp_path), "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, MergeProbeError)
    assert not (tmp_path / "out").exists()
