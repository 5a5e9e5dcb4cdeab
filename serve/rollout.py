"""Rolling out decisions: build their modules, then run the swap machine until every replica serves them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from probe.operators import MergeError
from probe.records import MergeProbeError
from router.engine import Engine
from router.records import Decision, Module, Plan, Recipe, RoutingTable, Verdict
from router.registry import Registry
from router.swap import Drain, Ports, swap
from router.table import next_table
from serve.metrics import ControllerMetrics
from serve.modules import ModuleBuilder, separate_recipe
from serve.verification import ModuleRefused, Verifier

DRAIN_POLL_SECONDS = 0.05
DRAIN_PATIENCE_SECONDS = 2.0
"""A tick waits this long for the last requests of an old module. Later ticks look again, so nobody else waits."""


class StillDraining(MergeProbeError):
    """Requests still run on a module that is no longer routed to; the next rollout goes on from there."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """Makes the replicas serve what a plan decided."""

    registry: Registry
    engine: Engine
    modules: ModuleBuilder
    verifier: Verifier
    metrics: ControllerMetrics
    sleep: Callable[[float], None] = time.sleep

    def __call__(self, plan: Plan) -> int:
        """Serve a plan's decisions and return the epoch that does.

        Raises
        ------
        ModuleRefused
            If a module failed its check, or cannot be merged any more. The refusal is recorded, so the next
            observation leaves that revision or that group out; the old epoch goes on serving.
        MergeInterrupted
            If a merge ended for another reason; the old epoch goes on serving.
        EngineError
            If a replica failed an order. Before the commit the old epoch goes on serving; after it, the next rollout
            takes the remaining steps.
        """
        current = self.registry.table()
        modules = {decision.adapter: self._module(decision) for decision in plan.decisions}
        target = next_table(current, plan.decisions, modules, self.registry.verdicts(), self._staying())
        try:
            self._swap(current, target, {module.name: module for module in modules.values()}, plan)
        except StillDraining:
            return target.epoch
        self._forget_leavers()
        return target.epoch

    def load(self, module: str) -> None:
        """Make a module resident on every replica, beside the traffic."""
        with self.metrics.load_seconds.time():
            self.engine.load(module, self.modules.path(module))

    def _module(self, decision: Decision) -> Module:
        if decision.recipe:
            return self._rebuilt(decision.recipe)
        return self.modules.separate(self.registry.adapter(decision.adapter))

    def _rebuilt(self, recipe: Recipe) -> Module:
        """Return the module of a recipe that passed; its folder stands, unless the store has lost it since."""
        try:
            return self.modules.merged(recipe)
        except MergeError as error:
            self.registry.put_verdict(Verdict(recipe, "", False, str(error)))
            self.registry.record_event("refused", recipe.key, str(error))
            raise ModuleRefused(str(error)) from error

    def _staying(self) -> frozenset[str]:
        return frozenset(adapter.name for adapter in self.registry.adapters() if not adapter.leaving)

    def _swap(self, current: RoutingTable, target: RoutingTable, modules: Mapping[str, Module], plan: Plan) -> None:
        began = time.perf_counter()
        passed = {verdict.module for verdict in self.registry.verdicts() if verdict.passed}
        ports = Ports(
            engine=self.engine,
            load=self.load,
            verify=lambda name: self._check_separate(modules[name]),
            committed_epoch=self.registry.epoch,
            commit=lambda table: self._commit(table, plan),
            wait=self._wait_for_drain(),
        )
        try:
            swap(target, passed | current.modules, ports)
        except StillDraining:
            self._count_swap(current, target, began)
            raise
        except MergeProbeError:
            self.metrics.swaps.labels("failed").inc()
            raise
        self._count_swap(current, target, began)

    def _count_swap(self, current: RoutingTable, target: RoutingTable, began: float) -> None:
        if target.epoch > current.epoch:
            self.metrics.swaps.labels("committed").inc()
            self.metrics.swap_seconds.observe(time.perf_counter() - began)

    def _commit(self, table: RoutingTable, plan: Plan) -> None:
        before = self.registry.table()
        self.registry.put_plan(replace(plan, epoch=table.epoch))
        self.registry.commit(table, plan.id)
        self.registry.record_event("epoch", str(table.epoch), f"epoch {table.epoch}: {_changes(before, table)}")

    def _check_separate(self, module: Module) -> None:
        recipe = separate_recipe(module)
        try:
            self.verifier.check(module)
        except ModuleRefused as error:
            self.registry.put_verdict(Verdict(recipe, module.name, False, str(error)))
            self.registry.record_event("refused", module.name, str(error))
            raise
        self.registry.put_verdict(Verdict(recipe, module.name, True, "changes the base as offline PEFT does"))

    def _wait_for_drain(self) -> Callable[[Drain], None]:
        deadline = time.monotonic() + DRAIN_PATIENCE_SECONDS

        def wait(drain: Drain) -> None:
            if time.monotonic() > deadline:
                raise StillDraining(f"{drain.num_requests} requests still run on module {drain.module}")
            self.sleep(DRAIN_POLL_SECONDS)

        return wait

    def _forget_leavers(self) -> None:
        for adapter in self.registry.adapters():
            if adapter.leaving:
                self.registry.forget_adapter(adapter.name)
                self.registry.record_event("removed", adapter.name, f"{adapter.name} has drained and is removed")


def _changes(before: RoutingTable, after: RoutingTable) -> str:
    """Say which adapters another module serves now, and which none."""
    old, new = ({route.adapter: route.module for route in table.routes} for table in (before, after))
    moved = [f"{adapter} -> {module}" for adapter, module in new.items() if old.get(adapter) != module]
    gone = [f"{adapter} is gone" for adapter in old if adapter not in new]
    return ", ".join([*moved, *gone]) or "the same modules, newer figures"
