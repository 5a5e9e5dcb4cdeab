"""When the controller ticks, and which plans it keeps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from router.records import Action, Decision, Placement, Plan, PlanState
from router.registry import Registry, utc_now
from serve import clockwork
from serve.clockwork import Clockwork
from tests.serve.bank import eventually

NEVER = 3600.0
DECISION = Decision("a", "0" * 64, Placement.SEPARATE, Action.ROUTE, "alone")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = Registry(f"sqlite:///{tmp_path / 'registry.db'}")
    registry.migrate()
    yield registry
    registry.close()


class Ticks:
    """Counts ticks, and notes when each began; `act` may raise, wait, or change the plan."""

    def __init__(self, act: Callable[[Plan], Plan] = lambda plan: plan) -> None:
        self.act, self.times, self.plans = act, list[float](), list[Plan]()

    def __call__(self, plan: Plan) -> Plan:
        self.times.append(time.monotonic())
        self.plans.append(plan)
        return replace(self.act(plan), state=PlanState.APPLIED, finished_at=utc_now())

    def __len__(self) -> int:
        return len(self.times)


@contextmanager
def running(ticks: Ticks, registry: Registry, interval: float = NEVER, debounce: float = 0.0) -> Iterator[Clockwork]:
    clock = Clockwork(ticks, registry, utc_now, interval, debounce)
    clock.start()
    try:
        yield clock
    finally:
        clock.stop()
        clock._thread.join(10)
        assert not clock._thread.is_alive()


def test_the_first_tick_comes_at_once_and_the_next_by_the_timer(registry: Registry) -> None:
    ticks = Ticks()
    with running(ticks, registry, interval=0.1):
        eventually(lambda: len(ticks) == 3)
    gaps = [later - earlier for earlier, later in zip(ticks.times, ticks.times[1:], strict=False)]
    assert min(gaps) >= 0.09


def test_changes_are_answered_by_one_tick_after_a_quiet_time(registry: Registry) -> None:
    ticks = Ticks()
    with running(ticks, registry, debounce=0.3) as clock:
        eventually(lambda: len(ticks) == 1)
        for _ in range(4):
            clock.poke()
            time.sleep(0.02)
        last = time.monotonic() - 0.02
        eventually(lambda: len(ticks) == 2)
        time.sleep(0.35)
    assert len(ticks) == 2
    assert ticks.times[1] >= last + 0.25


def test_a_person_is_not_kept_waiting_by_timer_or_debounce(registry: Registry) -> None:
    ticks = Ticks()
    with running(ticks, registry, debounce=NEVER) as clock:
        eventually(lambda: len(ticks) == 1)
        asked = clock.ask()
        assert asked.state is PlanState.PENDING
        eventually(lambda: registry.plan(asked.id).state is PlanState.APPLIED)
    assert ticks.plans[-1].id == asked.id


def test_an_asked_plan_is_running_while_its_tick_runs(registry: Registry) -> None:
    go_on, states = threading.Event(), list[PlanState]()

    def act(plan: Plan) -> Plan:
        if go_on.is_set():
            states.append(registry.plan(plan.id).state)
        return plan

    with running(Ticks(act), registry) as clock:
        eventually(lambda: clock.last_success)
        go_on.set()
        clock.ask()
        eventually(lambda: states)
    assert states == [PlanState.RUNNING]


def test_several_asked_plans_are_answered_by_one_tick(registry: Registry) -> None:
    go_on = threading.Event()

    def act(plan: Plan) -> Plan:
        go_on.wait(10)
        return replace(plan, decisions=(DECISION,))

    ticks = Ticks(act)
    with running(ticks, registry) as clock:
        eventually(lambda: len(ticks) == 1)
        asked = [clock.ask() for _ in range(3)]
        go_on.set()
        eventually(lambda: all(registry.plan(plan.id).state is PlanState.APPLIED for plan in asked))
    assert len(ticks) == 2
    kept = [registry.plan(plan.id) for plan in asked]
    assert [plan.created_at for plan in kept] == [plan.created_at for plan in asked]
    assert all(plan.decisions == (DECISION,) for plan in kept)


def test_a_timer_tick_that_says_nothing_new_leaves_no_plan(registry: Registry) -> None:
    decisions = [(), (), (DECISION,), (DECISION,), (DECISION,)]

    def act(plan: Plan) -> Plan:
        return replace(plan, decisions=decisions[min(len(ticks), len(decisions)) - 1])

    ticks = Ticks(act)
    with running(ticks, registry, interval=0.02):
        eventually(lambda: len(ticks) > 5)
    assert [plan.decisions for plan in registry.plans()] == [(DECISION,), ()]


def test_a_failed_tick_is_recorded_and_tried_again(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clockwork, "RETRY_SECONDS", 0.05)

    def act(plan: Plan) -> Plan:
        if len(ticks) <= 2:
            raise RuntimeError("planted")
        return plan

    ticks = Ticks(act)
    with running(ticks, registry) as clock:
        eventually(lambda: clock.last_success)
    assert [(plan.state, plan.message) for plan in registry.plans()] == [
        (PlanState.APPLIED, ""),
        (PlanState.FAILED, "planted"),
    ], "the second failure said nothing new"
    assert all(plan.finished_at for plan in registry.plans())
    assert ticks.times[1] - ticks.times[0] >= 0.05


def test_an_asked_plan_whose_tick_fails_is_failed(registry: Registry) -> None:
    def act(plan: Plan) -> Plan:
        if len(ticks) > 1:
            raise RuntimeError("planted")
        return plan

    ticks = Ticks(act)
    with running(ticks, registry) as clock:
        eventually(lambda: clock.last_success)
        asked = clock.ask()
        eventually(lambda: registry.plan(asked.id).state is PlanState.FAILED)
    assert registry.plan(asked.id).message == "planted"


def test_a_tick_that_fails_after_its_commit_keeps_epoch_and_decisions(registry: Registry) -> None:
    def act(plan: Plan) -> Plan:
        registry.put_plan(replace(plan, epoch=4, decisions=(DECISION,)))  # as `Rollout` does when it commits
        raise RuntimeError("planted")

    with running(Ticks(act), registry):
        eventually(lambda: [plan for plan in registry.plans() if plan.state is PlanState.FAILED])
    [plan] = registry.plans()
    assert (plan.state, plan.epoch, plan.decisions) == (PlanState.FAILED, 4, (DECISION,))


def test_plans_that_a_crash_left_unfinished_are_carried_out_after_the_restart(registry: Registry) -> None:
    crashed = Clockwork(Ticks(), registry, utc_now, NEVER, 0.0)
    pending = crashed.ask()
    started = replace(crashed.new_plan(PlanState.RUNNING), epoch=1)
    registry.put_plan(started)
    failed = crashed.new_plan(PlanState.FAILED)
    registry.put_plan(failed)
    with running(Ticks(), registry):
        eventually(lambda: {registry.plan(plan.id).state for plan in (pending, started)} == {PlanState.APPLIED})
    assert registry.plan(failed.id).state is PlanState.FAILED


def test_a_registry_that_fails_for_a_while_does_not_end_the_controller(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clockwork, "RETRY_SECONDS", 0.02)
    ticks = Ticks()
    with running(ticks, registry) as clock:
        eventually(lambda: len(registry.plans()) == 1)
        asked, failures, put = clock.new_plan(PlanState.PENDING), iter(range(2)), registry.put_plan

        def put_or_fail(plan: Plan) -> None:
            if plan.state is PlanState.RUNNING and next(failures, None) is not None:
                raise OSError("the database is away")
            put(plan)

        monkeypatch.setattr(registry, "put_plan", put_or_fail)
        asked = clock.ask()
        eventually(lambda: registry.plan(asked.id).state is PlanState.APPLIED)
    assert next(failures, None) is None


def test_stopping_waits_for_nothing_but_the_running_tick(registry: Registry) -> None:
    ticks = Ticks()
    began = time.monotonic()
    with running(ticks, registry):
        eventually(lambda: len(ticks) == 1)
    assert time.monotonic() - began < 5
