"""The controller's tick: observe, plan, roll out; measure what the plan wants to know; plan and roll out again.

In mode `approve` a tick rolls out only what a person has asked for or agreed to, and ends with a plan that waits.
Everything that it needs is handed in, so the whole loop runs in tests on a fake engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from threading import Lock

from probe.operators import MergeError
from probe.retention import Gain, gain
from router.labels import against_that_of
from router.planner import BankState, Candidate
from router.records import BASE, Adapter, Module, Part, Placement, Plan, PlanState, Recipe, Trial, Verdict
from router.registry import Registry
from serve.approval import APPROVED, SUPERSEDED, Approval, carried_out
from serve.merging import MergeInterrupted
from serve.metrics import ControllerMetrics
from serve.modules import ModuleBuilder, separate_name
from serve.planning import Planning
from serve.rechecks import Rechecks
from serve.rollout import Rollout
from serve.signals.affinities import Affinities
from serve.traffic import Traffic
from serve.verification import ModuleRefused, Verifier


@dataclass(slots=True)
class Asked:
    """What one tick has measured so far, so that it comes to an end.

    Attributes
    ----------
    newcomers
        Adapters scored alone, by name.
    groups, postponed
        Groups taken up; of these, those whose next recipe has to wait for the next tick.
    rechecked
        Whether a serving module was measured again: one a tick.
    """

    newcomers: set[str] = field(default_factory=set)
    groups: set[tuple[str, ...]] = field(default_factory=set)
    postponed: set[tuple[str, ...]] = field(default_factory=set)
    rechecked: bool = False


@dataclass(frozen=True, slots=True)
class Controller:
    """Brings the bank to the best plan that measurements support.

    `tick` is called from one thread only. All that matters after a crash is in the registry.
    """

    registry: Registry
    planning: Planning
    rollout: Rollout
    modules: ModuleBuilder
    verifier: Verifier
    rechecks: Rechecks
    approval: Approval
    affinities: Affinities
    traffic: Traffic
    metrics: ControllerMetrics
    clock: Callable[[], datetime]
    max_trials: int
    _planning: Lock = field(default_factory=Lock)
    """A planner remembers, and people's previews ask it from other threads."""

    def tick(self, plan: Plan) -> Plan:
        """Serve the best known plan; while it wants something measured, measure that and serve the better plan.

        A plan that a person approved is carried out instead, as it stands.
        """
        self.traffic.look()
        if plan.state is PlanState.APPROVED:
            return self.carry_out(plan)
        plan, asked = self.serve(plan), Asked()
        while not self.is_awaited() and (question := self.question(plan, asked)):
            match question:
                case Adapter():
                    asked.newcomers.add(question.name)
                    self.score(question)
                case Verdict():
                    asked.rechecked = True
                    self.recheck(question)
                case Trial():
                    asked.groups.add(question.adapters)
                    if not self.try_recipe(question):
                        asked.postponed.add(question.adapters)
            plan = self.serve(plan)
        return self._ended(self.approval.conclude(plan))

    def question(self, plan: Plan, asked: Asked) -> Adapter | Verdict | Trial | None:
        """Return what to measure next: a newcomer alone, one module that serves, a group that the plan hopes for."""
        recheck = None if asked.rechecked else self.rechecks.due()
        return self.newcomer(asked) or recheck or self.trial(plan, asked)

    def carry_out(self, plan: Plan) -> Plan:
        """Roll out what a person approved: a plan that still is what the controller would do, or a way back."""
        if plan.rolls_back is not None:
            return self.go_back(plan)
        if not self.approval.is_current(plan, self.decide(plan).decisions):
            return self._ended(replace(plan, state=PlanState.STALE, message=SUPERSEDED))
        try:
            epoch = self.rollout(plan)
        except ModuleRefused as error:
            return self._ended(replace(plan, state=PlanState.FAILED, message=str(error)))
        return self._ended(replace(plan, state=PlanState.APPLIED, epoch=epoch, message=carried_out(plan)))

    def go_back(self, plan: Plan) -> Plan:
        """Serve what was served before a plan, without what the engine refuses of it today."""
        while True:
            plan = replace(plan, decisions=self.approval.restored(plan, self.decide(plan).decisions))
            try:
                epoch = self.rollout(plan)
            except ModuleRefused:
                continue  # recorded: the next look leaves that module out
            self.metrics.rollbacks.labels("person").inc()
            return self._ended(replace(plan, state=PlanState.APPLIED, epoch=epoch, message=carried_out(plan)))

    def _ended(self, plan: Plan) -> Plan:
        return plan if plan.state is PlanState.WAITING else replace(plan, finished_at=self.clock())

    def serve(self, plan: Plan) -> Plan:
        """Observe, decide and roll out what may be, leaving out whatever the engine refuses on the way."""
        while True:
            plan = self.decide(plan)
            try:
                return replace(plan, epoch=self.rollout(self.approval.granted(plan)))
            except ModuleRefused:
                continue  # recorded: the next observation leaves that revision out

    def decide(self, plan: Plan) -> Plan:
        """Return the plan with a decision for every adapter and the groups worth trying; changes nothing."""
        bank = self.observe()
        with self._planning, self.metrics.plan_seconds.time():
            decisions, trials = self.planning.plan(bank)
        return replace(plan, decisions=decisions, trials=trials)

    def observe(self) -> BankState:
        """Return all that a planner may look at."""
        verdicts, adapters = self.registry.verdicts(), self.registry.adapters()
        refused = {verdict.module for verdict in verdicts if not verdict.passed}
        candidates = tuple(
            Candidate(adapter, self._gain(adapter))
            for adapter in adapters
            if not adapter.leaving and separate_name(adapter.revision) not in refused
        )
        measured = [candidate.adapter.revision for candidate in candidates if candidate.gain]
        merges = tuple(verdict for verdict in verdicts if len(verdict.recipe.members) > 1)
        return BankState(
            candidates=candidates,
            affinity=self.affinities.of(measured),
            verdicts=merges,
            current=self.registry.table(),
            traffic=self.traffic.of(candidate.adapter.name for candidate in candidates),
            vetoed=self.approval.vetoed(adapters),
        )

    def _gain(self, adapter: Adapter) -> Gain | None:
        if adapter.evaluation is None:
            return None
        base = self.registry.measurement(BASE, adapter.evaluation, Part.GATE)
        single = self.registry.measurement(separate_name(adapter.revision), adapter.evaluation, Part.GATE)
        return gain(base.scores, single.scores) if base and single else None

    def is_awaited(self) -> bool:
        """Say whether a person has decided about a plan, which does not wait for further measurements."""
        return bool(self.registry.plans(limit=1, states=APPROVED))

    def newcomer(self, asked: Asked) -> Adapter | None:
        """Return an adapter whose own gain the planner waits for."""
        for candidate in self.observe().candidates:
            adapter = candidate.adapter
            if (
                candidate.gain is None
                and adapter.evaluation
                and adapter.name not in asked.newcomers | self._protected()
            ):
                return adapter
        return None

    def trial(self, plan: Plan, asked: Asked) -> Trial | None:
        """Return the next group to try, of which one tick takes up at most `max_trials`."""
        room = len(asked.groups) < self.max_trials
        open_trials = (trial for trial in plan.trials if trial.adapters not in asked.postponed)
        return next((trial for trial in open_trials if room or trial.adapters in asked.groups), None)

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
            members = [registered[member] for member in recipe.members]
            verdict = self.planning.against_forecast(recipe, lambda: self._judge(recipe, members))
        except MergeInterrupted as error:
            self.registry.record_event("postponed", together, str(error))
            return False
        self.registry.put_verdict(replace(verdict, decided_at=self.clock()))
        self.metrics.compare(verdict)
        outcome = "passed" if verdict.passed else "failed"
        told = f"{together} by {recipe.operator} ({recipe.norm}) {outcome}: {verdict.reason}"
        self.registry.record_event("verdict", verdict.module, told)
        return True

    def recheck(self, known: Verdict) -> None:
        """Measure a serving module again. If it fails now, the next rollout takes its group apart, in every mode.

        That is the rollback of a breach: it goes the safe way, so it needs no person.
        """
        verifier, scores = self.verifier.afresh()
        registered = {adapter.revision: adapter for adapter in self.registry.adapters()}
        members = [registered[member] for member in known.recipe.members if member in registered]
        if len(members) < len(known.recipe.members):
            return  # somebody registered anew or removed a member: the next plan takes the group apart
        verdict = self._verdict(known.recipe, self.registry.module(known.module), members, verifier)
        scores.keep()
        self.registry.put_verdict(replace(against_that_of(verdict, known), decided_at=self.clock()))
        if not verdict.passed:
            names = " + ".join(sorted(adapter.name for adapter in members))
            told = f"{names} is taken apart, since it failed its re-check: {verdict.reason}"
            self.registry.record_event("breach", known.module, told, recipe=known.recipe.key)
            self.metrics.rollbacks.labels("breach").inc()

    def _judge(self, recipe: Recipe, members: list[Adapter]) -> Verdict:
        try:
            module = self.modules.merged(recipe)
        except MergeError as error:
            return Verdict(recipe, "", False, str(error))
        return self._verdict(recipe, module, members, self.verifier)

    def _verdict(self, recipe: Recipe, module: Module, members: list[Adapter], verifier: Verifier) -> Verdict:
        self.rollout.load(module.name)
        try:
            verifier.check(module)
        except ModuleRefused as error:
            return Verdict(recipe, module.name, False, str(error))
        return verifier.judge(recipe, module, members, self._resident, self._safety_sets())

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
