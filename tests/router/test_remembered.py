"""Forecasts are asked for once, and of a large bank for few."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from router.bank_state import BankState, Settings
from router.forecast_planner import ForecastPlanner
from router.records import Recipe
from tests.router.banks import candidate
from tests.router.planted import PlantedForecasts


def large_bank(count: int, near: int = 10) -> tuple[BankState, PlantedForecasts]:
    """Return adapters on a ring of which the next ones fit, and what is forecast of them."""
    revisions = [f"r-{number:03d}" for number in range(count)]
    bank = BankState(tuple(candidate(revision, revision=revision) for revision in revisions))

    def kept(recipe: Recipe) -> Mapping[str, float]:
        places = [int(member[2:]) for member in recipe.members]
        return dict.fromkeys(recipe.members, 0.99 - 0.01 * (max(places) - min(places)))

    ring = {
        revision: [revisions[(place + step) % count] for step in range(1, near)]
        for place, revision in enumerate(revisions)
    }
    return bank, PlantedForecasts(kept, near=ring)


def test_a_plan_is_made_anew_without_asking_again() -> None:
    bank, forecasts = large_bank(30)
    by = ForecastPlanner(Settings(max_trials=99), forecasts)
    first = by.plan(bank)
    asked = len(forecasts.asked)
    assert asked > 0
    assert by.plan(bank) == first
    assert len(forecasts.asked) == asked


def clusters(count: int, size: int = 5) -> tuple[BankState, PlantedForecasts]:
    """Return adapters of which only those of one cluster are neighbours."""
    of_cluster = [[f"r-{cluster:02d}-{number}" for number in range(size)] for cluster in range(count)]
    near = {one: [other for other in cluster if other != one] for cluster in of_cluster for one in cluster}
    return BankState(tuple(candidate(one, revision=one) for one in sorted(near))), PlantedForecasts(
        lambda recipe: dict.fromkeys(recipe.members, 0.97), near=near
    )


def test_adding_one_adapter_asks_about_its_neighbourhood_only() -> None:
    bank, forecasts = clusters(10)
    by = ForecastPlanner(Settings(max_trials=99), forecasts)
    _, before = by.plan(bank)
    all_asked = len(forecasts.asked)
    forecasts.asked.clear()
    newcomer, own = "r-03-x", [f"r-03-{number}" for number in range(5)]
    forecasts.near = {**forecasts.near, newcomer: own}
    _, after = by.plan(replace(bank, candidates=(*bank.candidates, candidate(newcomer, revision=newcomer))))
    assert any(newcomer in recipe.members for recipe in forecasts.asked)
    assert all({newcomer, *own} >= set(recipe.members) for recipe in forecasts.asked)
    assert len(forecasts.asked) < all_asked / 4
    elsewhere = [trial for trial in before if not trial.adapters[0].startswith("r-03")]
    assert [trial for trial in after if not trial.adapters[0].startswith("r-03")] == elsewhere


def test_other_evidence_of_an_adapter_is_asked_about() -> None:
    bank, forecasts = large_bank(6)
    by = ForecastPlanner(Settings(), forecasts)
    by.plan(bank)
    forecasts.asked.clear()
    forecasts.versions["r-002"] = "calibrated"
    by.plan(bank)
    assert forecasts.asked
    assert all("r-002" in recipe.members for recipe in forecasts.asked)


def test_a_large_bank_is_not_asked_about_all_pairs() -> None:
    bank, forecasts = large_bank(60)
    ForecastPlanner(Settings(), forecasts).plan(bank)
    pairs = {recipe.members for recipe in forecasts.asked if len(recipe.members) == 2}
    assert 0 < len(pairs) <= 60 * 9, "nine neighbours each, of 1770 pairs"


def test_a_large_bank_is_planned_as_well_as_its_ring_allows() -> None:
    """Thirty adapters in a row fit into six groups of five neighbours."""
    bank, forecasts = large_bank(30)
    _, trials = ForecastPlanner(Settings(max_trials=99), forecasts).plan(bank)
    assert [len(trial.adapters) for trial in trials] == [5] * 6
