"""The command that lists domains and mixes, and shows their rows."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from probe.bank.tasks import TASKS, TaskError, fields_of
from probe.bank.tasks.elements import elements
from serve.cli import app

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.cli.tasks.console.width", 200)


def run(*options: str) -> str:
    result = RUNNER.invoke(app, ["bank", "tasks", *options])
    if result.exception:
        raise result.exception
    return result.stdout


def run_json(*options: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(*options, "--json").splitlines()]


def test_rows_are_shown_without_markup_with_their_answer_and_scorer() -> None:
    [row] = TASKS["math"].generate("lists", "evaluation", 1, 3)
    text = run("--show", "math", "--mix", "lists", "--count", "1", "--split", "evaluation", "--seed", "3")
    shown = fields_of(row)
    assert "math, mix lists, evaluation." in text
    assert shown["question"] in text
    assert shown["answer"] in text
    assert "exact match" in text
    assert "<|im" not in text


@pytest.mark.parametrize(("domain", "scored"), [("code", "python: 3 cases"), ("safety", "refusal: expected = True")])
def test_checks_are_put_into_words(domain: str, scored: str) -> None:
    assert scored in run("--show", domain, "--count", "6")


def test_json_shows_the_rows_of_the_first_mix_by_default() -> None:
    rows = TASKS["math"].generate("things", "train", 5, 0)
    assert run_json("--show", "math") == [fields_of(row) for row in rows]


def test_a_file_of_ones_own_is_listed_and_shown(tmp_path: Path) -> None:
    mine = tmp_path / "mine.jsonl"
    mine.write_text(run("--show", "math", "--mix", "sums", "--count", "30", "--json"), encoding="utf-8")
    shown = run_json("--jsonl", str(mine), "--show", "mine", "--count", "4")
    assert len(shown) == 4
    assert all(json.dumps(line) in mine.read_text() for line in shown)
    with pytest.raises(TaskError, match="no domain 'mine'"):
        run("--show", "mine")
    clash = mine.rename(tmp_path / "math.jsonl")
    with pytest.raises(TaskError, match=r"math\.jsonl gives the domain 'math', which exists already"):
        run("--jsonl", str(clash), "--show", "math")


def test_the_list_has_every_mix_and_says_what_it_lacks(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Without the data package the mixes about elements name it, and hide no other."""
    request.addfinalizer(elements.cache_clear)
    elements.cache_clear()
    monkeypatch.setitem(sys.modules, "periodictable", None)
    monkeypatch.setattr("serve.cli.tasks._COUNT_UP_TO", 100)
    listed = {(line["domain"], line["mix"]): line for line in run_json()}
    assert list(listed) == [(domain, mix) for domain, task in TASKS.items() for mix in task.mixes]
    assert listed["math", "steps"]["rows"] == {"train": 100, "calibration": 100, "evaluation": 100}
    assert listed["math", "steps"]["difficulty"] == "hard"
    assert listed["science", "pairs"]["rows"] is None
    assert "periodictable" in listed["science", "pairs"]["description"]
    text = run()
    assert "100+" in text
    assert "periodictable" in text
