"""The examples run as their docstrings say."""

from __future__ import annotations

from pathlib import Path

import pytest

from probe.examples import forecast_while_training
from probe.predictors.fitting import fit, write_predictor
from probe.telemetry.bundle import read_bundle
from tests.planted_bank import Planting, planted_bank
from tests.probe.predictors.small import OPTIONS


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predictor")
    planting = Planting(per_domain=2, operators=("ta",), rhos=(0.02,), num_sets=8)
    write_predictor(folder, fit(planted_bank(planting)[0], OPTIONS))
    return folder


def test_a_training_is_forecast_at_every_early_checkpoint(
    tmp_path: Path, predictor: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert forecast_while_training.main([str(tmp_path), "--predictor", str(predictor)]) == 0
    told = capsys.readouterr().out
    for share in ("2%", "5%", "10%"):
        assert f"At {share} of training:" in told
    for other in ("copy", "reverse", "successor"):
        assert told.count(f"and {other} ") == 3
    assert "bundle is predicted to keep" in told
    assert "weights alone" in told
    assert "3 forecasts, at steps [2, 5, 10]" in told
    assert [one.step for one in read_bundle(tmp_path / "bundle").checkpoints] == [2, 5, 10]


def test_without_a_predictor_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert forecast_while_training.main([str(tmp_path), "--predictor", str(tmp_path / "none")]) == 2
    assert "mergeprobe fit" in capsys.readouterr().err
