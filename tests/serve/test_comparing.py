"""`mergeprobe signals`: what a person and a machine read of a pair, weights only and calibrated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from probe.profiling import Profiler
from probe.rows import Row, write_rows
from probe.signals import PAIR_SIGNALS, Need
from serve.cli import app
from tests import tiny
from tests.probe.test_reference import write_character_base


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two adapters with calibration rows, and a base that reads them."""
    folder = tmp_path_factory.mktemp("pair")
    write_character_base(folder / "base")
    for seed, name in enumerate(("math", "code")):
        adapter = tiny.write_adapter(folder / name, seed=seed)
        rows = [Row(f"<|im_start|>{name} {number}<|im_end|>", f"{number + seed}", "forced") for number in range(6)]
        write_rows(adapter / "calibration.jsonl", rows)
    return folder


def run(folder: Path, *options: str, code: int = 0) -> str:
    pair = str(folder / "math"), str(folder / "code")
    result = CliRunner().invoke(app, ["signals", *pair, "--cache", str(folder / "cache"), *options])
    assert result.exit_code == code, result.output
    return result.stdout


def test_weights_alone_say_what_they_can_and_what_is_missing(folder: Path) -> None:
    told = run(folder)
    assert "What math and code do to each other" in told
    assert "Not measured: " in told
    assert "--calibrate" in told
    assert "sign_conflict" in told
    assert "gradient_cosine" not in told


def test_machines_get_every_signal_with_its_reason(folder: Path) -> None:
    told = json.loads(run(folder, "--json"))
    assert told["signals"].keys() == PAIR_SIGNALS.keys()
    for key, row in PAIR_SIGNALS.items():
        numbers = told["signals"][key]
        assert bool(numbers["forth"]) == (row.needs == {Need.WEIGHTS})
        assert bool(numbers["missing"]) != bool(numbers["forth"])
        assert ("back" in numbers) != row.is_symmetric
    assert {"mechanism", "layers", "sentence", "value"} <= told["findings"]["forth"][0].keys()


def test_calibration_measures_the_rest_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = ("--calibrate", "--base", str(folder / "base"))
    told = json.loads(run(folder, *base, "--json"))
    gaps = {key for key, numbers in told["signals"].items() if numbers["missing"]}
    assert gaps == {"same_domain"}
    monkeypatch.setattr(Profiler, "_calibrated", None)  # a second pass would call it
    assert json.loads(run(folder, *base, "--json")) == told
    words = run(folder, *base)
    assert "Not measured" not in words
    assert "math on code: " in words


def test_rows_from_elsewhere_are_other_rows(folder: Path) -> None:
    rows = str(folder / "math" / "calibration.jsonl")
    base = ("--base", str(folder / "base"), "--json")
    beside = json.loads(run(folder, "--calibrate", *base))
    same = json.loads(run(folder, "--rows", rows, rows, *base))
    assert beside["signals"]["base_gradient_cosine"] != same["signals"]["base_gradient_cosine"]
    assert list(same["signals"]["base_gradient_cosine"]["forth"].values()) == pytest.approx([1.0] * 14)


@pytest.mark.parametrize(
    ("damage", "message"),
    [("adapter_config.json", "adapter_config.json is missing"), ("calibration.jsonl", "cannot be read")],
)
def test_a_missing_file_is_named(damage: str, message: str, folder: Path, tmp_path: Path) -> None:
    adapter = tiny.write_adapter(tmp_path / "broken")
    (adapter / damage).unlink(missing_ok=True)
    pair = str(adapter), str(folder / "code")
    options = "--cache", str(tmp_path), "--calibrate", "--base", str(folder / "base")
    result = CliRunner().invoke(app, ["signals", *pair, *options])
    assert result.exit_code == 1
    assert message in str(result.exception)
