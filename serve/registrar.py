"""Registering and removing adapters, and telling what became of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from router.intake import Registration
from router.records import Adapter, Placement, RoutingTable, Verdict
from router.registry import Registry, StaleRevision
from serve.errors import HttpError
from serve.modules import separate_name

POLL_SECONDS = 0.1
WAIT_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Registrar:
    """The only way into and out of the registry of adapters.

    `take_in` copies and validates a source, or raises and leaves nothing behind.
    """

    registry: Registry
    take_in: Callable[[Registration], Adapter]
    protected_domains: tuple[str, ...]

    def register(self, registration: Registration, expected_revision: str | None) -> tuple[Adapter, bool]:
        """Take an adapter in, and tell whether that changed anything: the same content again does not.

        Raises
        ------
        IntakeError
            If the source cannot be served; nothing has changed then.
        StaleRevision
            If `expected_revision` is not the registered one.
        """
        known = self._known(registration.name)
        seen = known.revision if known else ""
        if expected_revision not in (None, seen):  # asked again when it is kept: this saves the copying, and the copy
            raise StaleRevision(f"{registration.name} is at revision {seen or 'none'}, not at the expected one")
        adapter = self.take_in(registration)
        if known and _is_same(adapter, known):
            return known, False
        kept = self.registry.put_adapter(adapter, expected_revision=expected_revision)
        told = f"{adapter.name} is at revision {adapter.revision[:12]}, rank {adapter.rank}, from {adapter.source}"
        self.registry.record_event("registered", adapter.name, told)
        return kept, True

    def _known(self, name: str) -> Adapter | None:
        return next((adapter for adapter in self.registry.adapters() if adapter.name == name), None)

    def remove(self, name: str, force: bool) -> None:
        """Let an adapter leave: new requests stop at the next epoch, running ones finish, then it is forgotten.

        Raises
        ------
        UnknownAdapter
            If there is none of that name.
        HttpError
            409, if it is protected and `force` is not set.
        """
        adapter = self.registry.adapter(name)
        if self._is_protected(adapter) and not force:
            message = f"{name} is protected; repeat the request with force=true to remove it all the same"
            raise HttpError(409, message, "protected", "force")
        self.registry.mark_leaving(name)
        self.registry.record_event("leaving", name, f"a person removed {name}{' by force' if force else ''}")

    def _is_protected(self, adapter: Adapter) -> bool:
        return adapter.protected or adapter.domain in self.protected_domains

    def describe_all(self) -> list[dict[str, Any]]:
        """Describe every adapter, by name."""
        table, refused = self.registry.table(), self._refusals()
        return [_describe(adapter, table, refused) for adapter in self.registry.adapters()]

    def describe(self, name: str) -> dict[str, Any]:
        """Describe one adapter.

        Raises
        ------
        UnknownAdapter
        """
        return _describe(self.registry.adapter(name), self.registry.table(), self._refusals())

    def _refusals(self) -> dict[str, Verdict]:
        return {verdict.module: verdict for verdict in self.registry.verdicts() if not verdict.passed}

    def wait_until_served(self, adapter: Adapter) -> None:
        """Return when clients reach this revision.

        Raises
        ------
        HttpError
            422 if the engine refused it, 503 if it is not served in time.
        """
        deadline = time.monotonic() + WAIT_SECONDS
        while (state := self.describe(adapter.name))["state"] != "serving":
            if state["state"] == "refused":
                raise HttpError(422, state["reason"], "refused_by_engine", "lora_path")
            _pause_or_give_up(deadline, f"{adapter.name} is registered, but not served yet")

    def wait_until_gone(self, name: str) -> None:
        """Return when no route leads to a removed adapter any more and it has drained."""
        deadline = time.monotonic() + WAIT_SECONDS
        while self._known(name):
            _pause_or_give_up(deadline, f"{name} no longer takes requests, and still drains")


def _pause_or_give_up(deadline: float, what: str) -> None:
    if time.monotonic() > deadline:
        message = f"{what} after {WAIT_SECONDS:.0f} s; see /bank/events"
        raise HttpError(503, message, "not_ready", retry_after_seconds=10)
    time.sleep(POLL_SECONDS)


def _is_same(adapter: Adapter, known: Adapter) -> bool:
    return adapter == replace(known, source=adapter.source, registered_at=adapter.registered_at)


def _describe(adapter: Adapter, table: RoutingTable, refused: dict[str, Verdict]) -> dict[str, Any]:
    route, refusal = table.route(adapter.name), refused.get(separate_name(adapter.revision))
    if adapter.leaving:
        state, reason = "leaving", "removed by a person; running requests finish first"
    elif refusal:
        state, reason = "refused", refusal.reason
    elif route and route.revision == adapter.revision:
        state, reason = "serving", route.reason
    else:
        state, reason = "pending", "registered; the next plan takes it up"
    return {
        "name": adapter.name,
        "state": state,
        "reason": reason,
        "revision": adapter.revision,
        "served_revision": route.revision if route else None,
        "source": adapter.source,
        "domain": adapter.domain,
        "protected": adapter.protected or bool(route and route.placement is Placement.PROTECTED),
        "rank": adapter.rank,
        "bytes": adapter.num_bytes,
        "module": route.module if route else None,
        "placement": route.placement.value if route else None,
        "action": route.action.value if route else None,
        "operator": route.operator if route else None,
        "predicted_retention": route.predicted_retention if route else None,
        "lower_bound": route.lower_bound if route else None,
        "measured_retention": route.measured_retention if route else None,
        "epoch": table.epoch,
        "registered_at": adapter.registered_at.isoformat() if adapter.registered_at else None,
    }
