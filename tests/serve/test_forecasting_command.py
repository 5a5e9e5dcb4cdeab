"""`mergeprobe forecast`: against a folder and against a running bank, for people and for machines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from probe.adapter_config import AdapterError
from probe.bank.record_files import write_records
from probe.forecasting.partners import OtherBase
from probe.forecasting.seen_adapter import NoCheckpointYet, NoKnownAdapter
from probe.predictors.artefact import ArtefactMissing
from probe.predictors.forecast import SchemaMismatch
from probe.predictors.predictor import Predictor, write_predictor
from probe.rows import Row, RowError, write_rows
from serve.cli import app
from serve.client import BankError
from tests import tiny
from tests.probe.forecasting.seen import predictor_folder, small_predictor, write_bundle, write_checkpoint
from tests.probe.forecasting.test_advice import bank as records_with_effect
from tests.probe.test_reference import write_character_base
from tests.serve.bank import TinyBank

ROWS = [Row(f"<|im_start|>{number}<|im_end|>", str(number), "forced") for number in range(6)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A predictor, a base that reads text, a bank of two, and a bundle."""
    folder = tmp_path_factory.mktemp("forecast")
    predictor_folder(folder / "predictor")
    write_character_base(folder / "base")
    for seed, name in enumerate(("art", "code")):
        adapter = tiny.write_adapter(folder / "bank" / name, seed=seed)
        write_rows(adapter / "calibration.jsonl", ROWS)
    write_bundle(folder / "mine", rows=ROWS)
    return folder


def run(folder: Path, source: Path | str, *options: str, code: int = 0) -> str:
    fixed = ("--bank", str(folder / "bank"), "--cache", str(folder / "cache"))
    own = () if "--predictor" in options else ("--predictor", str(folder / "predictor"))
    result = CliRunner().invoke(app, ["forecast", str(source), *fixed, *own, *options])
    assert result.exit_code == code, result.output
    return result.stdout


def error_of(folder: Path, source: Path, *options: str) -> BaseException | None:
    fixed = ("--bank", str(folder / "bank"), "--cache", str(folder / "cache"))
    own = () if "--predictor" in options else ("--predictor", str(folder / "predictor"))
    return CliRunner().invoke(app, ["forecast", str(source), *fixed, *own, *options]).exception


def test_people_read_a_table_and_sentences(folder: Path) -> None:
    told = run(folder, folder / "mine")
    assert "mine at 5% of training, against 2 adapters" in told
    for words in ("art", "code", "conflicts most", "is predicted to reach", "weights alone"):
        assert words in told


def test_machines_get_all_of_it(folder: Path) -> None:
    told = json.loads(run(folder, folder / "mine", "--json"))
    assert {one["adapter"] for one in told["partners"]} == {"art", "code"}
    assert set(told) >= {"adapter", "action", "partners", "predicted_gain", "most_conflicting", "advice", "sentences"}
    assert {one["signals"] for one in told["partners"]} <= {"weights only", "no calibration"}


def test_rows_and_a_base_say_more(folder: Path) -> None:
    base = ("--base", str(folder / "base"), "--json")
    told = json.loads(run(folder, folder / "mine", *base))
    assert {one["conflict"]["is_fisher_weighted"] for one in told["partners"]} == {True}
    assert not any("weights alone" in sentence for sentence in told["sentences"])
    other = folder / "other.jsonl"
    write_rows(other, [Row(f"<|im_start|>{number}!<|im_end|>", "x", "forced") for number in range(6)])
    assert json.loads(run(folder, folder / "mine", *base, "--rows", str(other))) != told


def test_advice_rests_on_the_records_that_are_named(folder: Path) -> None:
    write_records(folder / "records", records_with_effect("rank", 0.15))
    told = json.loads(run(folder, folder / "mine", "--records", str(folder / "records"), "--json"))
    (one,) = told["advice"]
    assert (one["setting"], one["change"]) == ("rank", "a higher rank")
    assert one["retention"]["low"] > 0
    assert any("higher rank" in sentence for sentence in told["sentences"])


def test_a_checkpoint_may_be_told_its_share(folder: Path) -> None:
    place = write_checkpoint(folder / "checkpoint-9", 9)
    assert json.loads(run(folder, place, "--json"))["adapter"]["rho"] == 0.09
    assert json.loads(run(folder, place, "--rho", "0.02", "--json"))["adapter"]["rho"] == 0.02


def test_what_cannot_be_forecast_is_an_error_of_ours(folder: Path, tmp_path: Path) -> None:
    mine = folder / "mine"
    assert isinstance(error_of(folder, write_bundle(tmp_path / "new", rhos=())), NoCheckpointYet)
    assert isinstance(error_of(folder, write_bundle(tmp_path / "far", base_name="org/other")), OtherBase)
    assert isinstance(error_of(folder, tmp_path / "nowhere"), AdapterError)
    assert isinstance(error_of(folder, mine, "--bank", str(tmp_path)), NoKnownAdapter)
    assert isinstance(error_of(folder, mine, "--predictor", str(tmp_path / "none")), ArtefactMissing)
    base = ("--base", str(folder / "base"))
    assert isinstance(error_of(folder, mine, *base, "--rows", str(tmp_path / "none.jsonl")), RowError)


def test_a_predictor_of_another_schema_is_named(folder: Path, tmp_path: Path) -> None:
    artefact = small_predictor().artefact
    newer = replace(artefact.schema, version=artefact.schema.version + 1)
    old = tmp_path / "old"
    write_predictor(old, Predictor(replace(artefact, schema=newer)))
    assert isinstance(error_of(folder, folder / "mine", "--predictor", str(old)), SchemaMismatch)


def test_options_of_a_folder_are_none_of_a_running_bank(folder: Path) -> None:
    result = CliRunner().invoke(app, ["forecast", str(folder / "mine"), "--base", str(folder / "base")])
    assert result.exit_code == 2
    assert "go with --bank" in result.output


def test_a_running_bank_answers_the_same_as_it_does_over_http(tmp_path: Path) -> None:
    bank = TinyBank(tmp_path, overrides={"policy__predictor": str(predictor_folder(tmp_path / "predictor"))})
    bank.register("art", domain="math")
    bundle = write_bundle(bank.folder / "mine")
    rows = tmp_path / "elsewhere.jsonl"
    write_rows(rows, ROWS)
    with bank.over_http() as url:
        result = CliRunner().invoke(app, ["forecast", str(bundle), "--url", url, "--json"])
        assert result.exit_code == 0, result.output
        told = json.loads(result.stdout)
        assert told == bank.client().post("/bank/forecast", json={"source": str(bundle)}).json()
        assert [one["adapter"] for one in told["partners"]] == ["art"]
        shown = CliRunner().invoke(app, ["forecast", str(bundle), "--url", url, "--rows", str(rows)])
        assert shown.exit_code == 0, shown.output
        refused = CliRunner().invoke(app, ["forecast", "/etc", "--url", url])
    assert isinstance(refused.exception, BankError)
    assert "leads out of the folders" in str(refused.exception)
    bank.registry.close()
