"""When to tick: on a timer, soon after a change, at once when a person asks. One thread, one tick at a time."""

from __future__ import annotations

import logging
import math
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from router.records import Plan, PlanState
from router.registry import Registry, UnknownPlan
from serve.approval import APPROVED, waits_as

log = logging.getLogger("ray.serve")

RETRY_SECONDS = 5.0
"""Pause after a failed tick: its cause (a replica restarting, say) often passes, and the timer may be long."""


UNFINISHED = (PlanState.PENDING, PlanState.RUNNING)


class Clockwork:
    """Runs a controller's ticks and keeps their plans in the registry.

    Parameters
    ----------
    tick
        Carries out a plan and returns it finished; called from one thread only.
    interval_seconds, debounce_seconds
        Timer between ticks, and the quiet time after the last change before one starts.
    """

    def __init__(
        self,
        tick: Callable[[Plan], Plan],
        registry: Registry,
        clock: Callable[[], datetime],
        interval_seconds: float,
        debounce_seconds: float,
    ) -> None:
        self._tick, self._registry, self._clock = tick, registry, clock
        self._interval, self._debounce = interval_seconds, debounce_seconds
        self._changed = threading.Condition()
        self._due = time.monotonic()  # the first tick at once: it takes up whatever a crash left undone
        self._asked: list[str] = []
        self._stopping = False
        self._last: Plan | None = None
        self.last_success: datetime | None = None
        self._thread = threading.Thread(target=self._run, name="controller", daemon=True)

    def start(self) -> None:
        """Start ticking; plans that a crash left unfinished are carried out first."""
        left = [plan.id for plan in reversed(self._registry.plans(states=UNFINISHED))]
        self._asked = left + self._asked
        self._thread.start()

    def stop(self) -> None:
        """Stop after the tick that runs."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def poke(self) -> None:
        """Something changed: tick once it has been quiet for the debounce time, or when the timer is due anyway."""
        with self._changed:
            self._due = time.monotonic() + self._debounce
            self._changed.notify_all()

    def wake(self) -> None:
        """Tick at once: a person has decided about a plan."""
        with self._changed:
            self._due = time.monotonic()
            self._changed.notify_all()

    def ask(self) -> Plan:
        """Record a plan that a person asks for as pending; the next tick, which starts at once, carries it out."""
        plan = self.new_plan(PlanState.PENDING)
        self._registry.put_plan(plan)
        with self._changed:
            self._asked.append(plan.id)
            self._changed.notify_all()
        return plan

    def new_plan(self, state: PlanState) -> Plan:
        """Return an empty plan."""
        return Plan(f"plan-{uuid.uuid4().hex[:12]}", state, self._clock())

    def _run(self) -> None:
        while self._wait():
            asked, self._asked = self._asked, []
            try:
                self._answer(asked)
            except Exception:  # of the registry itself: this thread must outlive it, and owes those plans still
                log.exception("the registry does not take plans; trying again in %.0f s", RETRY_SECONDS)
                with self._changed:
                    self._asked[:0] = asked
                    self._changed.wait_for(lambda: self._stopping, RETRY_SECONDS)

    def _answer(self, asked: list[str]) -> None:
        for approved in reversed(self._registry.plans(states=APPROVED)):
            self._carry_out(approved, keep=True)
        plans = [self._registry.plan(plan_id) for plan_id in asked] or [self.new_plan(PlanState.RUNNING)]
        done = self._carry_out(plans[0], keep=bool(asked))
        for other in plans[1:]:  # asked for before the tick began, so the same tick answers them
            self._registry.put_plan(replace(_twin(done), id=other.id, created_at=other.created_at))

    def _wait(self) -> bool:
        timer = time.monotonic() + self._interval  # from the end of the last tick, so that traffic has a rest
        with self._changed:
            while not self._stopping and not self._asked and (left := min(self._due, timer) - time.monotonic()) > 0:
                self._changed.wait(left)
            self._due = math.inf
            return not self._stopping

    def _carry_out(self, plan: Plan, keep: bool) -> Plan:
        is_approved = plan.state is PlanState.APPROVED  # and stays so until it is done: a yes is not asked for twice
        if keep and not is_approved:
            self._registry.put_plan(replace(plan, state=PlanState.RUNNING))
        try:
            done = self._tick(plan)
            self.last_success = self._clock()
        except Exception as error:
            log.exception("tick failed")
            reached = replace(self._as_committed(plan), message=str(error))
            done = reached if is_approved else replace(reached, state=PlanState.FAILED, finished_at=self._clock())
            with self._changed:
                self._due = min(self._due, time.monotonic() + RETRY_SECONDS)
        if keep or self._is_news(done):
            self._registry.put_plan(done)
        self._last = done
        return done

    def _as_committed(self, plan: Plan) -> Plan:
        """Return a failed plan as far as it came: a commit has recorded its decisions and epoch."""
        try:
            return self._registry.plan(plan.id)
        except UnknownPlan:
            return plan

    def _is_news(self, done: Plan) -> bool:
        """Whether a timer's plan says anything that the one before it did not."""
        return self._last is None or _told(done) != _told(self._last)


def _twin(done: Plan) -> Plan:
    """Return what the plans end as that were answered by the same tick; only one of them waits."""
    if done.state is not PlanState.WAITING:
        return done
    return replace(done, state=PlanState.APPLIED, message=waits_as(done))


def _told(plan: Plan) -> tuple[object, ...]:
    return plan.state, plan.message, plan.epoch, plan.decisions
