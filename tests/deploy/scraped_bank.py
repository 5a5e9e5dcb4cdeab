"""A small bank without an engine, whose series are scraped over HTTP in the form that a running bank gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import prometheus_client
import pytest
from ray._private.telemetry.open_telemetry_metric_recorder import OpenTelemetryMetricRecorder

from router.engine import ReplicaView
from router.records import (
    Action,
    Adapter,
    MemberResult,
    Module,
    Placement,
    Plan,
    PlanState,
    Recipe,
    Route,
    RoutingTable,
    Verdict,
)
from router.registry import Registry
from serve import request_metrics
from serve.metrics import BankCollector, ControllerMetrics
from serve.routing import Call

ADMIN_KEY = "admin-key-of-the-test"
MERGED, SEPARATE, PROTECTED = "merged-1", "separate-2", "separate-3"
KEPT_LESS = Verdict(
    Recipe("ta", ("r0",), (1.0,), "none", 16),
    MERGED,
    False,
    "too little",
    (MemberResult("r0", 0.7, 0.6, None, None, 100, 0, None, 0.9, 0.8),),
)
"""A verdict on a member that kept less than its predicted bound."""
NODE = {"Component": "core_worker", "NodeAddress": "127.0.0.1", "Version": "2.60.0", "WorkerId": "1736f89cdb42"}
"""Labels that Ray puts on every series."""


def fill(registry: Registry) -> None:
    """Register four adapters: two share a merged module, one is separate, one is protected."""
    recipe = Recipe("ta", ("r0", "r1"), (0.5, 0.5), "none", 16)
    merge, route = (Placement.MERGED, Action.MERGE), (Placement.SEPARATE, Action.ROUTE)
    routes = (
        Route("code", "r0", MERGED, *merge, "measured", "ta", 0.97, 0.95, 0.87),
        Route("instruction", "r1", MERGED, *merge, "measured", "ta", 0.88, 0.9, 0.86),
        Route("math", "r2", SEPARATE, *route, "alone"),
        Route("safety", "r3", PROTECTED, Placement.PROTECTED, Action.ROUTE, "protected"),
    )
    registry.put_module(Module(MERGED, ("r0", "r1"), 16, 2_000_000, recipe, 0.99))
    registry.put_module(Module(SEPARATE, ("r2",), 8, 1_000_000))
    registry.put_module(Module(PROTECTED, ("r3",), 8, 1_000_000))
    for one in routes:
        registry.put_adapter(Adapter(one.adapter, one.revision, f"/adapters/{one.adapter}", 8, 1_000_000))
    registry.put_verdict(Verdict(recipe, MERGED, True, "passed", (), -0.02))
    registry.put_plan(Plan("plan-1", PlanState.WAITING, datetime.now(UTC)))
    registry.commit(RoutingTable(1, routes))


def replica_views() -> tuple[ReplicaView, ...]:
    """Return two replicas that hold what they should."""
    return tuple(ReplicaView(f"replica-{n}", 1, frozenset({MERGED, SEPARATE, PROTECTED})) for n in range(2))


@dataclass
class Controller:
    """The controller's side: its real metrics over a real registry. Something of everything happens at each scrape."""

    registry: Registry

    def __post_init__(self) -> None:
        fill(self.registry)
        self.metrics = ControllerMetrics()
        self.metrics.registry.register(
            BankCollector(self.registry, replica_views, lambda_cost=0.5, last_success=lambda: datetime.now(UTC))
        )

    def exposition(self) -> bytes:
        for result in ("committed", "failed"):
            self.metrics.swaps.labels(result).inc()
        for cause in ("breach", "person"):
            self.metrics.rollbacks.labels(cause).inc()
        self.metrics.compare(KEPT_LESS)
        for histogram in (self.metrics.swap_seconds, self.metrics.plan_seconds, self.metrics.load_seconds):
            histogram.observe(0.3)
        return self.metrics.exposition()


class RayAgent:
    """Ray's side: our real `RequestMetrics`, exported by the very class by which Ray's agent exports them.

    Between the two, Ray carries values from the replica to the agent through its core worker; that part is left out.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._recorder = OpenTelemetryMetricRecorder()
        api = SimpleNamespace(Counter=self._counter, Histogram=self._histogram)
        monkeypatch.setattr(request_metrics, "metrics", api)
        self.requests = request_metrics.RequestMetrics()

    def _counter(self, name: str, description: str, tag_keys: Sequence[str]) -> SimpleNamespace:
        self._recorder.register_counter_metric(name, description)
        return SimpleNamespace(inc=lambda value=1, *, tags: self._record(name, value, tags, tag_keys))

    def _histogram(
        self, name: str, description: str, boundaries: list[float], tag_keys: Sequence[str]
    ) -> SimpleNamespace:
        self._recorder.register_histogram_metric(name, description, boundaries)
        return SimpleNamespace(observe=lambda value, *, tags: self._record(name, value, tags, tag_keys))

    def _record(self, name: str, value: float, tags: Mapping[str, str], tag_keys: Sequence[str]) -> None:
        assert set(tags) == set(tag_keys), "Ray refuses tags that were not declared"
        self._recorder.set_metric_value(name, {**tags, **NODE}, value)

    def exposition(self) -> bytes:
        for name, module in (("code", MERGED), ("instruction", MERGED), ("math", SEPARATE)):
            call = Call(name, SimpleNamespace(lora_name=module))
            self.requests.finished(call, 200, 0.4, 24)
            self.requests.finished(call, 500, 2.0, 0)
        for reason in ("saturated", "invalid_api_key"):
            self.requests.rejected(reason)
        return prometheus_client.generate_latest()


@contextmanager
def scraped_bank(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Serve a bank's series on 127.0.0.1; yield host:port, and one exposition of each side by its scrape job."""
    registry = Registry(f"sqlite:///{folder / 'registry.db'}")
    registry.migrate()
    controller, agent = Controller(registry), RayAgent(monkeypatch)
    pages = {"/bank/metrics": (ADMIN_KEY, controller.exposition), "/metrics": (None, agent.exposition)}
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(pages))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
    thread.start()
    try:
        address = f"127.0.0.1:{server.server_address[1]}"
        yield address, {"mergeprobe": controller.exposition(), "ray": agent.exposition()}
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        registry.close()


def _handler(pages: Mapping[str, tuple[str | None, Callable[[], bytes]]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            key, exposition = pages.get(self.path, (None, None))
            is_open = key is None or self.headers["Authorization"] == f"Bearer {key}"
            status = 404 if exposition is None else 200 if is_open else 401
            body = exposition() if exposition and status == 200 else b""
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    return Handler
