"""Run the real planner on a simulated bank, tick by tick: everything it returns is simulated, and says so.

A tick is a controller's: plan, serve what passed, measure what the plan wants to know, one recipe a group. The engine
is simulated: a measurement is the bank's true retention with label noise, and its gate the one of real verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from scipy.stats import norm

from probe.plan_score import plan_score
from probe.retention import CONFIDENCE, Gain
from router.bank_state import Candidate, Settings
from router.forecast_planner import ForecastPlanner
from router.records import MemberResult, Placement, Recipe, RoutingTable, Verdict
from router.replay import Replay, Step
from router.score import traffic_weights
from router.simulated_bank import BankModel, SimulatedBank
from router.simulated_forecasts import SimulatedForecasts
from router.traffic import TRACES, Trace, by_name

CLEAR_GAIN = Gain(value=0.5, standard_error=0.05, num_rows=100)
"""Of every simulated adapter: far from the 2 standard errors below which it would stay separate."""


@dataclass(frozen=True, slots=True)
class Tick:
    """What one tick served and cost.

    Attributes
    ----------
    active, cost
        Distinct modules, and lambda_cost times that.
    merged_share
        0..1, of the adapters.
    macro, worst
        Mean and smallest true retention of all adapters, those of separate ones being 1.
    score
        Of the plan under the tick's traffic, by true retentions.
    trials, passed
        Groups measured in the tick, and of those the ones that passed.
    explored
        Groups of the trials whose bound did not pass.
    moved
        Adapters that another module serves than in the tick before.
    simulated
        Always true: no number here was measured on an adapter.
    """

    number: int
    active: int
    cost: float
    merged_share: float
    macro: float
    worst: float
    score: float
    trials: int
    passed: int
    explored: int
    moved: int
    simulated: bool = field(default=True, init=False)


def simulation(num_adapters: int, model: BankModel, settings: Settings, traffic: str, seed: int) -> Simulation:
    """Return a simulation of the planner that goes by forecasts.

    Parameters
    ----------
    traffic
        A key of `router.traffic.TRACES`.
    """
    bank = SimulatedBank(num_adapters, model, seed)
    planner = ForecastPlanner(settings, SimulatedForecasts(bank, settings, seed=seed))
    candidates = [Candidate(adapter, CLEAR_GAIN) for adapter in bank.adapters]
    replay = Replay(planner, candidates, partial(measured, bank, settings, seed))
    return Simulation(bank, settings, TRACES[traffic](num_adapters, seed), replay)


def measured(bank: SimulatedBank, settings: Settings, seed: int, recipe: Recipe) -> Verdict:
    """Measure a recipe: the same one always gives the same verdict."""
    error = bank.model.label_noise
    rng = np.random.default_rng([seed, int(recipe.key[:16], 16)])
    true = bank.retention([recipe])[0]
    gate, report = true + error * rng.standard_normal((2, true.size))
    bound = gate - float(norm.ppf(CONFIDENCE)) * error
    results = tuple(
        MemberResult(member, float(gate[i]), float(bound[i]), float(report[i]), error, 0, 0)
        for i, member in enumerate(recipe.members)
    )
    passed = bool(bound.min() >= settings.target_retention)
    return Verdict(recipe, f"simulated-{recipe.key[:16]}", passed, "simulated", results)


@dataclass(frozen=True, slots=True)
class Simulation:
    """A bank under a planner.

    Attributes
    ----------
    replay
        What was measured so far, and what is served.
    """

    bank: SimulatedBank
    settings: Settings
    trace: Trace
    replay: Replay

    def run(self, num_ticks: int) -> Iterator[Tick]:
        """Yield one tick after the other."""
        names = [adapter.name for adapter in self.bank.adapters]
        for number in range(num_ticks):
            traffic = by_name(names, self.trace(number))
            before = self.replay.table
            step = self.replay.tick(traffic)
            yield self._tick(number, before, step, traffic_weights(self.replay.candidates, traffic))

    def _tick(
        self,
        number: int,
        before: RoutingTable,
        step: Step,
        weights: dict[str, float],
    ) -> Tick:
        kept, table, decisions = self._true_retentions(step), self.replay.table, step.decisions
        active = len(table.modules)
        served_before = {route.adapter: route.module for route in before.routes}
        return Tick(
            number=number,
            active=active,
            cost=self.settings.lambda_cost * active,
            merged_share=sum(one.placement is Placement.MERGED for one in decisions) / max(1, len(decisions)),
            macro=math.fsum(kept.values()) / max(1, len(kept)),
            worst=min(kept.values(), default=1.0),
            score=plan_score(((weights[one], value) for one, value in kept.items()), active, self.settings.lambda_cost),
            trials=len(step.trials),
            passed=sum(verdict.passed for verdict in step.verdicts),
            explored=sum(trial.explores for trial in step.trials),
            moved=sum(served_before.get(route.adapter, route.module) != route.module for route in table.routes),
        )

    def _true_retentions(self, step: Step) -> dict[str, float]:
        """Return revision -> retention in what serves it."""
        kept = {decision.revision: 1.0 for decision in step.decisions}
        for recipe in step.groups:
            kept |= dict(zip(recipe.members, self.bank.retention([recipe])[0].tolist(), strict=True))
        return kept
