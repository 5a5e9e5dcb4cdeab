"""The predictor in the package was fitted to the records in the package."""

from __future__ import annotations

import pytest

from probe.bank.record_files import SHIPPED_RECORDS, read_records
from probe.bank.records import Records
from probe.predictors.dataset import schema_of
from probe.predictors.fitting import records_hash
from probe.predictors.predictor import Predictor, default_predictor


@pytest.fixture(scope="module")
def records() -> Records:
    return read_records(SHIPPED_RECORDS)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return default_predictor()


def test_it_was_fitted_to_the_shipped_records_as_this_version_measures_them(
    records: Records, predictor: Predictor
) -> None:
    assert predictor.card.records_hash == records_hash(records)
    assert predictor.artefact.schema == schema_of(records)


def test_its_bounds_cover_what_they_say_on_pairs_of_adapters_that_were_held_out(predictor: Predictor) -> None:
    """Nominal 90 %; each view has some hundred labels of two dozen adapters."""
    pairs = [one for one in predictor.card.metrics if one.kind == "pairs"]
    assert {one.view.split(",")[0] for one in pairs} == {"cold start", "bank-aware"}
    for one in pairs:
        assert one.coverage is not None
        assert 0.86 <= one.coverage <= 0.96, one
