"""The engine as the router sees it: a fleet of replicas that load modules and follow a routing table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from probe.records import MergeProbeError
from probe.rows import Answer, Row
from router.records import RoutingTable


class EngineError(MergeProbeError):
    """A replica refused or failed an order; nothing may be assumed about that replica's modules."""


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """What one replica says of itself.

    Attributes
    ----------
    epoch
        Version of the routing table that it routes by.
    resident
        Modules that it holds.
    in_flight
        Module -> requests that run on it.
    answered
        Adapter name -> clients' requests answered since the replica started; what `Engine.measure` asks is none.
    """

    replica: str
    epoch: int
    resident: frozenset[str]
    in_flight: Mapping[str, int] = field(default_factory=dict)
    answered: Mapping[str, int] = field(default_factory=dict)


class Engine(Protocol):
    """Orders to every live replica. Each is idempotent, so a repeated order after a crash does no harm.

    A real and a fake engine pass the same contract test (`tests/engine_contract.py`).
    """

    def views(self) -> tuple[ReplicaView, ...]:
        """Return the view of every live replica.

        Raises
        ------
        EngineError
            If no replica answers.
        """

    def load(self, module: str, path: str) -> None:
        """Make a module resident on every replica; resident already is success.

        Raises
        ------
        EngineError
            If a replica cannot load the folder.
        """

    def unload(self, module: str) -> None:
        """Free a module on every replica; absent already is success.

        Raises
        ------
        EngineError
            If a request still runs on it, or a routing table still names it.
        """

    def flip(self, table: RoutingTable) -> None:
        """Make every replica route by this table, at once and without touching running requests.

        Raises
        ------
        EngineError
            If the table is older than a replica's, or names a module that is not resident there.
        """

    def measure(self, module: str | None, rows: Sequence[Row]) -> tuple[Answer, ...]:
        """Return the answer of a resident module (None: the base) to every row, in order."""
