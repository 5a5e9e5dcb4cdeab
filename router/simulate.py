"""Run the real planner on a simulated bank, tick by tick: everything it returns is simulated, and says so.

A tick is a controller's: plan, serve what passed, measure what the plan wants to know, one recipe a group. The engine
is simulated: a measurement is the bank's true retention with label noise, and its gate the one of real verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import norm

from probe.retention import CONFIDENCE, Gain
from router.bank_state import BankState, Candidate, Settings
from router.forecast_planner import ForecastPlanner
from router.planner import Planner
from router.records import Decision, MemberResult, Module, Placement, Recipe, RoutingTable, Trial, Verdict
from router.score import plan_score, traffic_weights
from router.simulated_bank import BankModel, SimulatedBank
from router.simulated_forecasts import SimulatedForecasts
from router.table import next_table
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
        Groups of the trials of which the point forecast alone passed.
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
    return Simulation(bank, planner, settings, TRACES[traffic](num_adapters, seed), seed)


@dataclass(slots=True)
class Simulation:
    """A bank under a planner.

    Attributes
    ----------
    verdicts, table
        What was measured so far, and what is served.
    """

    bank: SimulatedBank
    planner: Planner
    settings: Settings
    trace: Trace
    seed: int = 0
    verdicts: list[Verdict] = field(default_factory=list)
    table: RoutingTable = field(default_factory=RoutingTable)

    def run(self, num_ticks: int) -> Iterator[Tick]:
        """Yield one tick after the other."""
        candidates = tuple(Candidate(adapter, CLEAR_GAIN) for adapter in self.bank.adapters)
        names = [adapter.name for adapter in self.bank.adapters]
        for number in range(num_ticks):
            traffic = by_name(names, self.trace(number))
            state = BankState(candidates, verdicts=tuple(self.verdicts), current=self.table, traffic=traffic)
            decisions, trials = self.planner.plan(state)
            before = self.table
            self.table = self._served(decisions)
            verdicts = [self.verdict(trial.recipes[0]) for trial in trials]
            self.verdicts.extend(verdicts)
            yield self._tick(number, before, decisions, trials, verdicts, traffic_weights(candidates, traffic))

    def verdict(self, recipe: Recipe) -> Verdict:
        """Measure a recipe: the same one always gives the same verdict."""
        error = self.bank.model.label_noise
        rng = np.random.default_rng([self.seed, int(recipe.key[:16], 16)])
        true = self.bank.retention([recipe])[0]
        gate, report = true + error * rng.standard_normal((2, true.size))
        bound = gate - float(norm.ppf(CONFIDENCE)) * error
        results = tuple(
            MemberResult(member, float(gate[i]), float(bound[i]), float(report[i]), error, 0, 0)
            for i, member in enumerate(recipe.members)
        )
        passed = bool(bound.min() >= self.settings.target_retention)
        return Verdict(recipe, f"simulated-{recipe.key[:16]}", passed, "simulated", results)

    def _served(self, decisions: Sequence[Decision]) -> RoutingTable:
        built = {verdict.recipe: verdict.module for verdict in self.verdicts}
        modules = {
            one.adapter: Module(built[one.recipe] if one.recipe else f"separate-{one.revision}", (one.revision,), 0, 0)
            for one in decisions
        }
        return next_table(self.table, decisions, modules, self.verdicts, modules)

    def _tick(
        self,
        number: int,
        before: RoutingTable,
        decisions: Sequence[Decision],
        trials: Sequence[Trial],
        verdicts: Sequence[Verdict],
        weights: dict[str, float],
    ) -> Tick:
        kept = self._true_retentions(decisions)
        active = len(self.table.modules)
        served_before = {route.adapter: route.module for route in before.routes}
        return Tick(
            number=number,
            active=active,
            cost=self.settings.lambda_cost * active,
            merged_share=sum(one.placement is Placement.MERGED for one in decisions) / max(1, len(decisions)),
            macro=math.fsum(kept.values()) / max(1, len(kept)),
            worst=min(kept.values(), default=1.0),
            score=plan_score(((weights[one], value) for one, value in kept.items()), active, self.settings.lambda_cost),
            trials=len(trials),
            passed=sum(verdict.passed for verdict in verdicts),
            explored=sum(trial.explores for trial in trials),
            moved=sum(served_before.get(route.adapter, route.module) != route.module for route in self.table.routes),
        )

    def _true_retentions(self, decisions: Sequence[Decision]) -> dict[str, float]:
        """Return revision -> retention in what serves it."""
        kept = {decision.revision: 1.0 for decision in decisions}
        for recipe in dict.fromkeys(decision.recipe for decision in decisions if decision.recipe):
            kept |= dict(zip(recipe.members, self.bank.retention([recipe])[0].tolist(), strict=True))
        return kept
