"""The command that writes the report, over a folder of records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from probe.bank.record_files import write_records
from probe.records import MergeProbeError
from serve.cli import app
from tests.probe.planted_records import planted_records


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    write_records(folder, planted_records(adapters_per_domain=1))
    return folder


def test_a_folder_of_records_becomes_a_report_and_a_list_of_verdicts(records: Path, tmp_path: Path) -> None:
    command = ["bank", "report", "--records", str(records), "--out", str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    verdicts = {verdict["key"]: verdict for verdict in json.loads(result.stdout)}
    assert verdicts["PDA, weak deltas, ta, 2 members"]["outcome"] == "confirmed"
    assert {"report.md", "report.html", "report.json"} < {path.name for path in (tmp_path / "out").iterdir()}


def test_a_folder_without_records_is_an_error_of_ours(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["bank", "report", "--records", str(tmp_path), "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, MergeProbeError)
    assert not (tmp_path / "out").exists()
