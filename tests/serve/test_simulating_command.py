"""`mergeprobe simulate`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from probe.bank.record_files import write_records
from router.traffic import TRACES
from serve.cli import app
from serve.cli.simulating import TraceName
from tests.planted_bank import Planting, planted_bank


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["simulate", *arguments], env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_table_says_that_it_is_simulated() -> None:
    shown = run("--adapters", "10", "--ticks", "2")
    assert "simulated: 10 adapters" in shown
    assert "All of this is simulated" in shown


def test_json_says_that_it_is_simulated_and_holds_every_tick() -> None:
    told = json.loads(run("--adapters", "10", "--ticks", "3", "--trials", "1", "--traffic", "zipf", "--json"))
    assert told["simulated"] is True
    assert told["fit"] is None
    assert [tick["number"] for tick in told["ticks"]] == [0, 1, 2]
    assert all(tick["simulated"] and tick["trials"] <= 1 for tick in told["ticks"])


def test_the_same_seed_gives_the_same_run() -> None:
    asked = ("--adapters", "12", "--ticks", "3", "--json")
    assert run(*asked, "--seed", "4") == run(*asked, "--seed", "4") != run(*asked, "--seed", "5")


def test_a_fit_to_records_is_shown(tmp_path: Path) -> None:
    records, _ = planted_bank(Planting(operators=("ta", "mean")))
    write_records(tmp_path, records)
    asked = ("--adapters", "6", "--ticks", "1", "--records", str(tmp_path))
    shown = run(*asked)
    assert "measured / simulated" in shown
    fit = json.loads(run(*asked, "--json"))["fit"]
    assert fit["error"] > 0
    assert {row["operator"] for row in fit["rows"]} == {"ta", "mean"}


@pytest.mark.parametrize("wrong", [("--adapters", "0"), ("--traffic", "rush-hour"), ("--ticks", "none")])
def test_what_cannot_be_simulated_is_refused(wrong: tuple[str, str]) -> None:
    assert CliRunner().invoke(app, ["simulate", *wrong]).exit_code == 2


def test_every_trace_can_be_asked_for() -> None:
    assert [trace.value for trace in TraceName] == list(TRACES)
