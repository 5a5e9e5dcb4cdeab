"""One predictor for all that only asks it: fitting takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from probe.bank.records import Records
from probe.predictors.fitting import fit, write_predictor
from probe.predictors.predictor import Predictor
from tests.planted_bank import Planting, Truth, planted_bank
from tests.probe.predictors.small import OPTIONS


@pytest.fixture(scope="session")
def planted() -> tuple[Records, Truth]:
    return planted_bank(Planting(num_sets=20, loss_error=0.2))


@pytest.fixture(scope="session")
def fitted(planted: tuple[Records, Truth]) -> Predictor:
    return fit(planted[0], OPTIONS, date="2026-11-03")


@pytest.fixture(scope="session")
def folder(fitted: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predictor")
    write_predictor(folder, fitted)
    return folder
