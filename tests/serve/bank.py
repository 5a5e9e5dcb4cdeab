"""A whole bank in a temporary folder: real registry, store, intake, planner and merges; planted scores."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from probe.rows import Answer, Row, write_rows
from router.intake import Registration
from router.records import Plan, PlanState
from router.registry import Registry, utc_now
from serve.admin import Bank, admin_app
from serve.config import read_config
from serve.merging import Merge, merge_files
from serve.signals.measuring import Place
from serve.signals.thread import Measure
from serve.wiring import build_bank
from tests import tiny
from tests.fakes import FakeEngine

NUM_ROWS = 240


@dataclass
class TinyBank:
    """Adapters `name` with rows "name:3"; alone an adapter answers all of its rows.

    `kept` says what share of its rows an adapter still answers inside a merged module, by its name; `safety` is the
    share of the safety rows that merged modules answer (the base answers half of them).
    """

    folder: Path
    kept: dict[str, float] = field(default_factory=dict)
    safety: float = 0.5
    overrides: dict[str, object] = field(default_factory=dict)
    merge: Merge = merge_files
    _owners: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        base = tiny.write_base(self.folder / "base")
        settings: dict[str, object] = {
            "base__name": tiny.BASE_NAME,
            "base__path": base,
            "state": self.folder / "state",
            "intake__roots": (self.folder,),
            "verify__reference": False,
            "policy__predictor": "none",
            "controller__interval_seconds": 3600,
            "controller__debounce_seconds": 0,
        }
        self.config = read_config(None, **(settings | self.overrides))
        self.engine = FakeEngine(respond=self.respond)
        self.bank: Bank = build_bank(self.config, base, self.engine, self.merge, self.measure_at)
        self.registry: Registry = self.bank.registry

    def respond(self, module: str | None, row: Row) -> Answer:
        """Answer by what is planted for the adapter that the row belongs to."""
        name, _, number = row.prompt.partition(":")
        if not number.isdigit():  # the probes of the check after loading
            return Answer(is_argmax=True, log_likelihood=-1.0 if module is None else -float(sum(map(ord, module))))
        return Answer(is_argmax=int(number) / NUM_ROWS < self._share(module, name), log_likelihood=-1.0)

    def _share(self, module: str | None, name: str) -> float:
        if name == "safety" and (module is None or module.startswith("merged-")):
            return 0.5 if module is None else self.safety
        if module is None:
            return 0.0
        members = self._members(module)
        if name not in members:
            return 0.5 if name == "safety" else 0.0
        return 1.0 if len(members) == 1 else self.kept.get(name, 1.0)

    def _members(self, module: str) -> set[str]:
        if module not in self._owners:  # modules are immutable, and asking the registry for every row is slow
            revisions = self.registry.module(module).members
            owners = {adapter.name for adapter in self.registry.adapters() if adapter.revision in revisions}
            self._owners[module] = owners
        return self._owners[module]

    def source(self, name: str, seed: int = 0, **config: object) -> Path:
        """Write an adapter folder with its rows; another seed is another revision."""
        folder = tiny.write_adapter(self.folder / f"{name}-{seed}", seed=1000 * seed + sum(map(ord, name)), **config)
        rows = [Row(f"{name}:{number * 97 % NUM_ROWS}", "x", "forced") for number in range(NUM_ROWS)]
        write_rows(folder / "evaluation.jsonl", rows)
        return folder

    def body(self, name: str, seed: int = 0, **fields: object) -> dict[str, object]:
        """Return the body that registers an adapter."""
        folder = self.source(name, seed)
        return {"name": name, "source": str(folder), "evaluation": str(folder / "evaluation.jsonl"), **fields}

    def register(self, name: str, seed: int = 0, **fields: object) -> None:
        """Register an adapter as `POST /bank/adapters` does."""
        self.bank.registrar.register(Registration(**self.body(name, seed, **fields)), None)

    def tick(self) -> Plan:
        """Run one tick in this thread."""
        return self.bank.clockwork._tick(Plan("plan-test", PlanState.RUNNING, utc_now()))

    def measure_at(self, place: Place) -> Measure:
        """Measure signals in this process."""
        self.place = place
        return self.measure

    def measure(self, work: Callable[[Place], Any]) -> Any:
        """Do a piece of work, and return what it returns."""
        return work(self.place)

    def round(self) -> None:
        """Run one round of the clockwork in this thread: what people decided, then a plan of its own."""
        self.bank.clockwork._answer([])

    def waiting(self) -> Plan:
        """Return the one plan that waits for a person."""
        (plan,) = self.registry.plans(states=(PlanState.WAITING,))
        return plan

    def client(self, **options: Any) -> TestClient:
        """Return a client of the admin plane, which sees paths as behind Ray: whole, with the prefix as root path."""
        return TestClient(admin_app(self.bank), root_path="/bank", **options)

    def state(self) -> dict[str, object]:
        """Return everything that a refused request must leave as it was."""
        store = self.config.store
        return {
            "adapters": self.registry.adapters(),
            "table": self.registry.table(),
            "verdicts": self.registry.verdicts(),
            "modules": self.registry.modules(),
            "store": sorted(str(path.relative_to(store)) for path in store.rglob("*")),
            "orders": list(self.engine.log),
        }

    @contextmanager
    def over_http(self) -> Iterator[str]:
        """Answer over real HTTP inside the block; yield the URL."""
        inside = Starlette(routes=[Mount("/bank", admin_app(self.bank))])
        server = uvicorn.Server(uvicorn.Config(inside, port=0, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run)
        thread.start()
        eventually(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive()

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Run the clockwork inside the block."""
        clockwork = self.bank.clockwork
        clockwork.start()
        try:
            yield
        finally:
            clockwork.stop()
            clockwork._thread.join(10)
            assert not clockwork._thread.is_alive()


def eventually(holds: Callable[[], object], seconds: float = 20.0) -> None:
    """Return once something holds; it has to within the time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)
