"""The command that fits a predictor, over a folder of records."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from probe.bank.record_files import read_records, write_records
from probe.bank.records import Records
from probe.predictors.fitting import TooFewLabels
from probe.predictors.options import FitOptions
from probe.predictors.predictor import Predictor
from probe.records import MergeProbeError
from serve.cli import app
from tests.planted_bank import Planting, planted_bank


@pytest.fixture(autouse=True)
def _small_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.predictors.options.FitOptions", partial(FitOptions, num_trees=20, num_folds=2))


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bank") / "records"
    write_records(folder, planted_bank(Planting(per_domain=2, operators=("ta",), rhos=()))[0])
    return folder


def test_records_become_a_predictor_and_a_card(records: Path) -> None:
    result = CliRunner().invoke(app, ["fit", str(records), "--seed", "3", "--json"])
    assert result.exit_code == 0, result.output
    card = json.loads(result.stdout)
    folder = records.parent / "records-predictor"
    assert card["folder"] == str(folder)
    assert (card["num_adapters"], card["num_pair_labels"]) == (10, 90)
    assert card["options"]["seed"] == 3
    assert Predictor.load(folder).card.records_hash == card["records_hash"]


def test_the_card_is_printed(records: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["fit", str(records), "--out", str(tmp_path / "mine")])
    assert result.exit_code == 0, result.output
    for told in ("90", "AUROC", "cold start", "mine"):
        assert told in result.stdout
    assert Predictor.load(tmp_path / "mine").card.num_pair_labels == 90


def test_too_few_labels_are_an_error_of_ours(tmp_path: Path) -> None:
    write_records(tmp_path / "few", planted_bank(Planting(per_domain=1, operators=("ta",), rhos=()))[0])
    result = CliRunner().invoke(app, ["fit", str(tmp_path / "few")])
    assert isinstance(result.exception, TooFewLabels)
    assert isinstance(result.exception, MergeProbeError)
    assert not (tmp_path / "few-predictor").exists()


def test_a_registry_is_a_source_too(records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def of_registry(url: str, signals: Path) -> Records:
        asked.append((url, signals))
        return read_records(records)

    monkeypatch.setattr("serve.registry_records.registry_records", of_registry)
    given = ["fit", "--from-registry", "sqlite:///bank.db", "--state", str(tmp_path)]
    result = CliRunner().invoke(app, [*given, "--json"])
    assert result.exit_code == 0, result.output
    assert asked == [("sqlite:///bank.db", tmp_path / "signals")]
    assert Predictor.load(tmp_path / "predictor").card.num_pair_labels == 90


@pytest.mark.parametrize("given", [[], ["records", "--from-registry", "sqlite:///bank.db"]])
def test_one_source_is_expected(given: list[str]) -> None:
    result = CliRunner().invoke(app, ["fit", *given])
    assert result.exit_code == 2
    assert "one of the two" in result.output


def test_an_empty_registry_says_what_it_lacks(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'registry.db'}"
    result = CliRunner().invoke(app, ["fit", "--from-registry", url, "--state", str(tmp_path)])
    assert isinstance(result.exception, TooFewLabels)
