"""The search of large banks against looking at every set, on banks that are small enough for both."""

from __future__ import annotations

import statistics

import pytest

from probe.bank.records import Records
from router.group_search import MAX_BREADTH, MIN_BREADTH, GroupSearch
from router.prospects import Depth
from router.records import Adapter
from router.simulated_bank import SimulatedBank
from router.simulated_forecasts import SimulatedForecasts
from tests.bench.planning import MODELS, OPEN, MeasuredForecasts, gap, searched
from tests.planted_bank import Planting, planted_bank


def search_of(num_adapters: int) -> GroupSearch:
    bank = SimulatedBank(num_adapters, MODELS["default"], 0)
    return searched(bank.adapters, SimulatedForecasts(bank, OPEN), OPEN)


@pytest.mark.parametrize("model", ["default", "sharp"])
def test_the_gap_to_the_best_plan_is_small_on_simulated_banks(model: str) -> None:
    gaps = []
    for seed in range(8):
        bank = SimulatedBank(7 + seed % 2, MODELS[model], seed)
        gaps.append(gap(bank.adapters, SimulatedForecasts(bank, OPEN, seed=seed), OPEN))
    assert statistics.median(gaps) == pytest.approx(0.0, abs=1e-9)
    assert max(gaps) <= 0.01


def test_the_gap_to_the_best_plan_is_small_on_what_labels_say() -> None:
    """Sets of every size up to five are labelled for two operators; pairs and triples of nine adapters are compared."""
    records, _ = planted_bank(Planting(operators=("ta", "mean"), num_sets=40))
    forecasts = MeasuredForecasts(records)
    settings = forecasts.settings()
    adapters = measured_adapters(records)
    gaps = [gap(adapters[start : start + 9], forecasts, settings) for start in (0, 3, 6)]
    assert statistics.median(gaps) == pytest.approx(0.0, abs=1e-9)
    assert max(gaps) <= 0.01


def measured_adapters(records: Records) -> list[Adapter]:
    return [Adapter(one.name, one.name, "records", one.rank, 0, one.domain, evaluation="x") for one in records.adapters]


def test_what_was_not_labelled_is_not_forecast() -> None:
    records, _ = planted_bank(Planting(operators=("ta",)))
    forecasts = MeasuredForecasts(records)
    names = [adapter.name for adapter in records.adapters]
    search = searched(measured_adapters(records)[:3], forecasts, forecasts.settings())
    search.look_at_all()
    assert search.prospects.seen[frozenset(names[:2])].closest is not None
    assert search.prospects.seen[frozenset(names[:3])].closest is None


def test_small_banks_are_searched_broadly_and_large_ones_narrowly() -> None:
    widths = [search_of(size).breadth for size in (5, 12, 60, 200, 2000)]
    assert widths == sorted(widths, reverse=True)
    assert (widths[0], widths[-1]) == (MAX_BREADTH, MIN_BREADTH)
    depths = [search_of(size).depth for size in (12, 30, 200)]
    assert depths == [Depth.EVERY_RECIPE, Depth.REPAIRS, Depth.MERGES]


def test_a_small_bank_is_looked_at_as_a_whole() -> None:
    search = search_of(6)
    search.look_around()
    assert len(search.prospects.seen) == 15 + 20 + 15 + 6


def test_the_sets_looked_at_grow_no_faster_than_the_bank() -> None:
    counts = []
    for size in (150, 300):
        search = search_of(size)
        search.look_around()
        counts.append(len(search.prospects.seen))
    assert counts[1] < 2.5 * counts[0]
    assert sum(len(members) == 2 for members in search.prospects.seen) < 300 * 20
