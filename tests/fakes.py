"""A fake engine that keeps the engine's contract without a model, so that decisions and swaps can be tested fast."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from probe.rows import Answer, Row
from router.engine import EngineError, ReplicaView
from router.records import RoutingTable

Responder = Callable[[str | None, Row], Answer]


def echo(module: str | None, row: Row) -> Answer:
    """Answer by a hash of module and row: every module speaks differently, and always the same."""
    digest = hashlib.sha256(f"{module}|{row.prompt}|{row.answer}".encode()).digest()
    if row.scorer == "generated":
        return Answer(text=digest.hex()[:8])
    return Answer(is_argmax=digest[0] % 2 == 0, log_likelihood=-digest[1] / 64 - 0.01)


@dataclass
class FakeReplica:
    epoch: int = 0
    table: RoutingTable = field(default_factory=RoutingTable)
    resident: set[str] = field(default_factory=set)
    in_flight: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)


@dataclass
class FakeEngine:
    """`router.engine.Engine` in memory.

    `fail` is called before every order on every replica with (order, subject, replica index) and may raise;
    `capacity` is how many modules a replica holds before it evicts the oldest.
    """

    num_replicas: int = 2
    respond: Responder = echo
    fail: Callable[[str, str, int], None] = lambda order, subject, replica: None
    capacity: int = 1000
    log: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.replicas = [FakeReplica() for _ in range(self.num_replicas)]

    def views(self) -> tuple[ReplicaView, ...]:
        if not self.replicas:
            raise EngineError("no live replica")
        return tuple(
            ReplicaView(f"replica-{index}", one.epoch, frozenset(one.resident), dict(one.in_flight), dict(one.answered))
            for index, one in enumerate(self.replicas)
        )

    def load(self, module: str, path: str) -> None:
        self.log.append(("load", module))
        for index, replica in enumerate(self.replicas):
            self.fail("load", module, index)
            if not Path(path).is_dir():
                raise EngineError(f"vLLM cannot load module {module} from {path}: no such folder")
            if module not in replica.resident and len(replica.resident) >= self.capacity:
                replica.resident.pop()
            replica.resident.add(module)

    def unload(self, module: str) -> None:
        self.log.append(("unload", module))
        for index, replica in enumerate(self.replicas):
            self.fail("unload", module, index)
            if replica.in_flight[module] or module in replica.table.modules:
                raise EngineError(f"module {module} cannot be unloaded: it is in use")
            replica.resident.discard(module)

    def flip(self, table: RoutingTable) -> None:
        self.log.append(("flip", str(table.epoch)))
        for index, replica in enumerate(self.replicas):
            self.fail("flip", str(table.epoch), index)
            if table.epoch < replica.epoch:
                raise EngineError(f"epoch {table.epoch} is older than epoch {replica.epoch}")
            if missing := table.modules - replica.resident:
                raise EngineError(f"epoch {table.epoch} routes to modules that are not loaded: {sorted(missing)}")
            replica.table, replica.epoch = table, table.epoch

    def measure(self, module: str | None, rows: Sequence[Row]) -> tuple[Answer, ...]:
        if module is not None and module not in self.replicas[0].resident:
            raise EngineError(f"module {module} is not loaded here, so it cannot be measured")
        return tuple(self.respond(module, row) for row in rows)
