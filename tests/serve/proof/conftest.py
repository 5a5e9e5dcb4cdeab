"""One proof for all that only read it: a predictor is fitted for it, which takes seconds."""

from __future__ import annotations

import pytest

from probe.bank.records import Records
from probe.predictors.fitting import fit
from probe.predictors.predictor import Predictor
from serve.proof.proof import Proof, prove
from tests.planted_bank import Planting, planted_bank
from tests.probe.predictors.small import OPTIONS
from tests.serve.proof.planted import held_out_records


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    records, _ = planted_bank(Planting(operators=("ta", "mean"), num_sets=20, loss_error=0.05))
    return fit(records, OPTIONS, date="2026-11-26")


@pytest.fixture(scope="session")
def records() -> Records:
    return held_out_records()[0]


@pytest.fixture(scope="session")
def proof(records: Records, predictor: Predictor) -> Proof:
    return prove(records, predictor)
