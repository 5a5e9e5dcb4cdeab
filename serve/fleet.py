"""The engine deployment as the controller drives it: every order goes to every live replica."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray.serve.handle import DeploymentHandle

from probe.rows import Answer, Row
from router.engine import EngineError, ReplicaView
from router.records import RoutingTable

VIEW_SECONDS = 10.0
"""A view is a glance, and Prometheus waits for it: a replica that cannot answer so long is in trouble."""


class Fleet:
    """`router.engine.Engine` over Ray Serve handles. Call it from a thread, never from an event loop.

    Parameters
    ----------
    handle
        Handle of the engine deployment.
    timeout_seconds
        Longest wait for one order on all replicas.
    """

    def __init__(self, handle: DeploymentHandle[Any], timeout_seconds: float = 600.0) -> None:
        self._handle, self._timeout = handle, timeout_seconds

    def views(self) -> tuple[ReplicaView, ...]:
        """Ask every replica for its view."""
        return tuple(self._broadcast("view", timeout_seconds=VIEW_SECONDS))

    def load(self, module: str, path: str) -> None:
        """Make a module resident everywhere."""
        self._broadcast("load", module, path)

    def unload(self, module: str) -> None:
        """Free a module everywhere."""
        self._broadcast("unload", module)

    def flip(self, table: RoutingTable) -> None:
        """Make every replica route by this table."""
        self._broadcast("flip", table)

    def measure(self, module: str | None, rows: Sequence[Row]) -> tuple[Answer, ...]:
        """Let one replica answer the rows: all of them hold the same module."""
        answers: tuple[Answer, ...] = self._handle.measure.remote(module, rows).result(timeout_s=self._timeout)
        return answers

    def _broadcast(self, order: str, *args: Any, timeout_seconds: float | None = None) -> list[Any]:
        timeout = timeout_seconds or self._timeout
        try:
            results: list[Any] = self._handle.broadcast(order, *args).results(timeout_s=timeout)
        except EngineError:
            raise
        except Exception as error:
            raise EngineError(f"the order '{order}' did not reach every replica: {error}") from error
        if not results:
            raise EngineError(f"the order '{order}' found no live replica; wait until the engine deployment is up")
        return results
