"""Re-checks: merged modules that serve are measured again from time to time, one a tick, when the engine is idle.

What is asked again is the gate: base, members alone and members merged, afresh on the engine that serves now, on the
gate rows that are registered now. The same bound on the same rows can only fall by what has changed (an engine, a file,
new rows of a member), so a sound module is not rolled back by the noise of another sample; and the report rows, which
decide nothing here either, go on being an honest account of what is served.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from router.engine import Engine
from router.records import Part, Verdict
from router.registry import Registry

PATIENCE = 2
"""Intervals after which a module is checked whatever the traffic: an engine that is never idle is checked too."""
NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Rechecks:
    """Says which serving module is to be measured again."""

    registry: Registry
    engine: Engine
    interval: timedelta
    clock: Callable[[], datetime]

    def due(self) -> Verdict | None:
        """Return the verdict of the module that was checked longest ago, if its time has come.

        The time of a module has come at once if a member's rows are others than those that it was measured on.
        """
        modules = self.registry.table().modules
        serving = [
            verdict
            for verdict in self.registry.verdicts()
            if verdict.passed and len(verdict.recipe.members) > 1 and verdict.module in modules
        ]
        if outdated := next(filter(self._is_outdated, serving), None):
            return outdated
        oldest = min(serving, key=_checked_at, default=None)
        return oldest if oldest and self._is_due(oldest) else None

    def _is_outdated(self, verdict: Verdict) -> bool:
        rows = {adapter.revision: adapter.evaluation for adapter in self.registry.adapters()}
        asked = (rows.get(member) for member in verdict.recipe.members)
        return any(one and self.registry.measurement(verdict.module, one, Part.GATE) is None for one in asked)

    def _is_due(self, verdict: Verdict) -> bool:
        age = self.clock() - _checked_at(verdict)
        return age >= PATIENCE * self.interval or (age >= self.interval and self._is_idle())

    def _is_idle(self) -> bool:
        return not any(sum(view.in_flight.values()) for view in self.engine.views())


def _checked_at(verdict: Verdict) -> datetime:
    return verdict.decided_at or NEVER
