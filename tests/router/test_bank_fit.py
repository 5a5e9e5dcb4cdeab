"""The simulator fitted to a measured bank, and the fit shown."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from probe.bank.records import Records
from router.bank_fit import MIN_LABELS, QUANTILES, Fit, fitted
from router.records import Recipe
from router.simulated_bank import BankModel, SimulatedBank, SimulationError
from tests.planted_bank import Planting, planted_bank
from tests.probe.planted import adapter, label, scores
from tests.probe.planted_records import FACTS

NUM_ROWS, BASE, SINGLE = 400, 200, 300
TRUE = BankModel(within=0.6, overlap=0.1, conflict=0.6, spread=0.5, label_noise=0.0, hidden=0.0)


def records_of(bank: SimulatedBank) -> Records:
    """Return what measuring a simulated bank's pairs would have recorded, rounded to rows."""
    domain = {one.revision: one.domain or "" for one in bank.adapters}
    pairs = list(combinations(sorted(domain), 2))
    kept = bank.retention([Recipe("ta", pair, (1.0, 1.0), "none", 16) for pair in pairs])
    labels = [
        label(pair, victim, scores(BASE, NUM_ROWS), scores(SINGLE, NUM_ROWS), scores(rounded, NUM_ROWS))
        for pair, both in zip(pairs, kept.tolist(), strict=True)
        for victim, value in zip(pair, both, strict=True)
        for rounded in [min(NUM_ROWS, max(0, BASE + round((SINGLE - BASE) * value)))]
    ]
    return Records(FACTS, tuple(adapter(name, domain[name]) for name in sorted(domain)), tuple(labels))


@pytest.fixture(scope="module")
def fit() -> Fit:
    return fitted(records_of(SimulatedBank(30, TRUE, seed=3)), BankModel())


def test_the_quantiles_of_a_simulated_bank_are_found_again(fit: Fit) -> None:
    assert fit.error < 0.03
    for row in fit.rows:
        assert np.array(row.simulated) == pytest.approx(np.array(row.measured), abs=0.08)


def test_a_calmer_bank_is_fitted_by_less_conflict_and_domains_are_told_apart(fit: Fit) -> None:
    calm = fitted(records_of(SimulatedBank(30, replace(TRUE, conflict=0.1), seed=3)), BankModel())
    assert calm.model.conflict < fit.model.conflict / 2
    assert fit.model.within > 2 * fit.model.overlap


def test_every_row_says_what_it_is_of(fit: Fit) -> None:
    assert {(row.within_domain, row.operator, row.norm) for row in fit.rows} == {
        (True, "ta", "none"),
        (False, "ta", "none"),
    }
    assert all(len(row.measured) == len(row.simulated) == len(QUANTILES) for row in fit.rows)
    assert all(row.num_labels >= MIN_LABELS for row in fit.rows)


def test_the_noise_is_that_of_the_labels_and_the_rest_stays() -> None:
    records, _ = planted_bank(Planting(operators=("ta", "mean")))
    fit = fitted(records, BankModel(forecast_error=0.3))
    errors = [one.retention.standard_error for one in records.labels if len(one.members) == 2 and one.is_sound]
    assert fit.model.label_noise == pytest.approx(np.median(errors))
    assert fit.model.forecast_error == 0.3
    assert {row.operator for row in fit.rows} == {"ta", "mean"}


def test_records_without_enough_pairs_are_refused() -> None:
    records, _ = planted_bank()
    empty = Records(records.facts, records.adapters, records.labels[:1])
    with pytest.raises(SimulationError, match="no kind of pair with 8 merges"):
        fitted(empty, BankModel())
