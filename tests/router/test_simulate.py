"""The real planner on a simulated bank."""

from __future__ import annotations

import pytest

from router.bank_state import Settings
from router.records import Placement
from router.simulate import Simulation, Tick, simulation
from router.simulated_bank import BankModel
from router.traffic import TRACES

SETTINGS = Settings(max_trials=4, max_exploration=4)


def run(
    num_adapters: int = 12, ticks: int = 8, traffic: str = "uniform", seed: int = 0
) -> tuple[Simulation, list[Tick]]:
    simulated = simulation(num_adapters, BankModel(), SETTINGS, traffic, seed)
    return simulated, list(simulated.run(ticks))


def test_every_tick_says_that_it_is_simulated() -> None:
    assert all(tick.simulated for tick in run(ticks=2)[1])


def test_the_same_seed_runs_the_same() -> None:
    assert run()[1] == run()[1]
    assert run()[1] != run(seed=1)[1]


def test_modules_are_saved_tick_by_tick_and_nothing_unmeasured_is_served() -> None:
    simulated, ticks = run()
    assert ticks[0].active == 12
    assert ticks[-1].active < 12
    assert ticks[-1].score > ticks[0].score
    passed = {verdict.module for verdict in simulated.replay.verdicts if verdict.passed}
    routes = simulated.replay.table.routes
    assert {route.module for route in routes if route.placement is Placement.MERGED} <= passed
    assert all(route.placement is Placement.PROTECTED for route in routes if route.adapter.startswith("safety"))


def test_the_sums_of_a_tick_agree() -> None:
    simulated, ticks = run()
    last = ticks[-1]
    assert last.active == len(simulated.replay.table.modules)
    assert last.cost == 0.5 * last.active
    assert last.merged_share == sum(route.placement is Placement.MERGED for route in simulated.replay.table.routes) / 12
    assert last.score == pytest.approx(12 * last.macro - last.cost, abs=0.5), "no retention lies far above 1"
    assert last.worst <= last.macro
    assert sum(tick.trials for tick in ticks) == len(simulated.replay.verdicts)
    assert sum(tick.passed for tick in ticks) == sum(verdict.passed for verdict in simulated.replay.verdicts)


def test_a_recipe_has_one_verdict_however_often_it_is_measured() -> None:
    simulated, _ = run()
    verdict = simulated.replay.verdicts[0]
    assert simulated.replay.measure(verdict.recipe) == verdict


@pytest.mark.parametrize("traffic", TRACES)
def test_every_trace_runs(traffic: str) -> None:
    assert len(run(ticks=3, traffic=traffic)[1]) == 3


def test_a_single_adapter_and_a_bank_of_many_run() -> None:
    assert run(num_adapters=1, ticks=1)[1][0].active == 1
    assert run(num_adapters=120, ticks=1)[1][0].trials == SETTINGS.max_trials
