"""The controller's tick: observe, plan, roll out; measure what the plan wants to know; plan and roll out again.

Everything that it needs is handed in, so the whole loop runs in tests on a fake engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from probe.operators import MergeError
from probe.retention import Gain, gain
from router.planner import BankState, Candidate, Planner
from router.records import BASE, Adapter, Module, Part, Placement, Plan, PlanState, Recipe, Trial, Verdict
from router.registry import Registry
from serve.affinities import Affinities
from serve.merging import MergeInterrupted
from serve.metrics import ControllerMetrics
from serve.modules import ModuleBuilder, separate_name
from serve.rollout import Rollout
from serve.verification import ModuleRefused, Verifier


@dataclass(frozen=True, slots=True)
class Controller:
    """Brings the bank to the best plan that measurements support.

    `tick` is called from one thread only. All that matters after a crash is in the registry.
    """

    registry: Registry
    planner: Planner
    rollout: Rollout
    modules: ModuleBuilder
    verifier: Verifier
    affinities: Affinities
    metrics: ControllerMetrics
    clock: Callable[[], datetime]
    max_trials: int

    def tick(self, plan: Plan) -> Plan:
        """Serve the best known plan; while it wants something measured, measure that and serve the better plan."""
        plan = self.serve(plan)
        groups: set[tuple[str, ...]] = set()
        postponed: set[tuple[str, ...]] = set()
        skipped: set[str] = set()
        while question := self.newcomer(skipped) or self.trial(plan, groups, postponed):
            if isinstance(question, Adapter):
                skipped.add(question.name)
                self.score(question)
            else:
                groups.add(question.adapters)
                if not self.try_recipe(question):
                    postponed.add(question.adapters)
            plan = self.serve(plan)
        return replace(plan, state=PlanState.APPLIED, finished_at=self.clock())

    def serve(self, plan: Plan) -> Plan:
        """Observe, decide and roll out, leaving out whatever the engine refuses on the way."""
        while True:
            plan = self.decide(plan)
            try:
                return replace(plan, epoch=self.rollout(plan))
            except ModuleRefused:
                continue  # recorded: the next observation leaves that revision out

    def decide(self, plan: Plan) -> Plan:
        """Return the plan with a decision for every adapter and the groups worth trying; changes nothing."""
        bank = self.observe()
        with self.metrics.plan_seconds.time():
            decisions, trials = self.planner.plan(bank)
        return replace(plan, decisions=decisions, trials=trials)

    def observe(self) -> BankState:
        """Return all that a planner may look at."""
        verdicts = self.registry.verdicts()
        refused = {verdict.module for verdict in verdicts if not verdict.passed}
        candidates = tuple(
            Candidate(adapter, self._gain(adapter))
            for adapter in self.registry.adapters()
            if not adapter.leaving and separate_name(adapter.revision) not in refused
        )
        measured = [candidate.adapter.revision for candidate in candidates if candidate.gain]
        merges = tuple(verdict for verdict in verdicts if len(verdict.recipe.members) > 1)
        return BankState(candidates, self.affinities.of(measured), merges, self.registry.table())

    def _gain(self, adapter: Adapter) -> Gain | None:
        if adapter.evaluation is None:
            return None
        base = self.registry.measurement(BASE, adapter.evaluation, Part.GATE)
        single = self.registry.measurement(separate_name(adapter.revision), adapter.evaluation, Part.GATE)
        return gain(base.scores, single.scores) if base and single else None

    def newcomer(self, skipped: set[str]) -> Adapter | None:
        """Return an adapter whose own gain the planner waits for."""
        for candidate in self.observe().candidates:
            adapter = candidate.adapter
            if candidate.gain is None and adapter.evaluation and adapter.name not in skipped | self._protected():
                return adapter
        return None

    def trial(self, plan: Plan, groups: set[tuple[str, ...]], postponed: set[tuple[str, ...]]) -> Trial | None:
        """Return the next group to try, of which one tick takes up at most `max_trials`."""
        room = len(groups) < self.max_trials
        open_trials = (trial for trial in plan.trials if trial.adapters not in postponed)
        return next((trial for trial in open_trials if room or trial.adapters in groups), None)

    def score(self, adapter: Adapter) -> None:
        """Measure what the base and the adapter alone score on its gate rows."""
        assert adapter.evaluation is not None
        for name in (BASE, self._resident(adapter).name):
            self.verifier.scores.of(name, adapter.evaluation, Part.GATE)

    def try_recipe(self, trial: Trial) -> bool:
        """Build the trial's next recipe, load it beside the traffic, measure it, and record the verdict.

        Returns
        -------
        bool
            False where there is none, because the group has changed or its merge was interrupted: for the next tick.
        """
        recipe = trial.recipes[0]
        registered = {adapter.revision: adapter for adapter in self.registry.adapters()}
        if not registered.keys() >= set(recipe.members):
            return False  # somebody registered anew or removed a member since the plan was made
        together = " + ".join(trial.adapters)
        try:
            verdict = self._judge(recipe, [registered[member] for member in recipe.members])
        except MergeInterrupted as error:
            self.registry.record_event("postponed", together, str(error))
            return False
        self.registry.put_verdict(replace(verdict, decided_at=self.clock()))
        outcome = "passed" if verdict.passed else "failed"
        told = f"{together} by {recipe.operator} ({recipe.norm}) {outcome}: {verdict.reason}"
        self.registry.record_event("verdict", verdict.module, told)
        return True

    def _judge(self, recipe: Recipe, members: list[Adapter]) -> Verdict:
        try:
            module = self.modules.merged(recipe)
        except MergeError as error:
            return Verdict(recipe, "", False, str(error))
        self.rollout.load(module.name)
        try:
            self.verifier.check(module)
        except ModuleRefused as error:
            return Verdict(recipe, module.name, False, str(error))
        return self.verifier.judge(recipe, module, members, self._resident, self._safety_sets())

    def _resident(self, adapter: Adapter) -> Module:
        """Return an adapter's own module, loaded; the next rollout frees it if no route needs it."""
        module = self.modules.separate(adapter)
        self.rollout.load(module.name)
        return module

    def _protected(self) -> set[str]:
        return {route.adapter for route in self.registry.table().routes if route.placement is Placement.PROTECTED}

    def _safety_sets(self) -> list[str]:
        protected = self._protected()
        return sorted({a.evaluation for a in self.registry.adapters() if a.name in protected and a.evaluation})
