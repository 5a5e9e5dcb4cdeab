"""The middleware around vLLM: keys, admission, binding, headers, counts. A small application stands in for vLLM."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from serve.ingress import ADMIN_PATHS, CLIENT_LEFT, MODULE_HEADER, OPEN_PATHS, Admission, Ingress
from serve.routing import Call, LiveRoutes

OLD, NEW = SimpleNamespace(lora_name="separate-old"), SimpleNamespace(lora_name="merged-new")


@dataclass
class FakeMetrics:
    """Keeps what `RequestMetrics` would count."""

    seen: list[tuple[str | None, str, int, int]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def finished(self, call: Call, status: int, seconds: float, generated_tokens: int) -> None:
        assert seconds >= 0
        assert call.module is not None
        self.seen.append((call.name, call.module.lora_name, status, generated_tokens))

    def rejected(self, reason: str) -> None:
        self.reasons.append(reason)


class Replica:
    """An application that looks names up in the routes as vLLM does, inside our middleware."""

    def __init__(self, api_key: str | None = None, admin_key: str | None = None, max_requests: int = 10) -> None:
        self.routes, self.metrics = LiveRoutes(), FakeMetrics()
        self.routes.replace({"math": OLD, "base:math": OLD})
        self.began, self.go_on, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        paths = [*OPEN_PATHS, *ADMIN_PATHS, "/v1/models"]
        app = Starlette(
            routes=[
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                WebSocketRoute("/v1/realtime", self.realtime),
                *(Route(path, self.plain, methods=["GET", "POST"]) for path in paths),
            ]
        )
        self.app = Ingress(
            app, routes=self.routes, admission=Admission(api_key, admin_key, max_requests), metrics=self.metrics
        )

    def look_up(self, name: str) -> Any:
        if name in self.routes:  # exactly vLLM's `_maybe_get_adapters`
            return self.routes[name]
        return None

    async def chat(self, request: Request) -> Any:
        asked = await request.json()
        module = self.look_up(asked["model"])
        if module is None:
            return JSONResponse({"error": "no such model"}, 404)
        if asked.get("fails"):
            raise RuntimeError("planted")
        if asked.get("stream"):
            return StreamingResponse(self.stream(asked["model"]))
        usage = SimpleNamespace(completion_tokens=7)
        request.state.request_metadata = SimpleNamespace(final_usage_info=usage)
        return JSONResponse({"module": self.look_up(asked["model"]).lora_name, "running": dict(self.routes.in_flight)})

    async def stream(self, name: str) -> AsyncIterator[str]:
        try:
            yield self.look_up(name).lora_name + " "
            self.began.set()
            await self.go_on.wait()
            yield self.routes[name].lora_name
        finally:
            self.ended.set()

    async def plain(self, request: Request) -> JSONResponse:
        return JSONResponse({})

    async def realtime(self, socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_json({"running": self.app.num_requests})
        await socket.close()

    def client(self) -> TestClient:
        return TestClient(self.app, raise_server_exceptions=False)

    def is_idle(self) -> bool:
        return not self.routes.in_flight and self.app.num_requests == 0


def chat(replica: Replica, model: str = "math", **fields: object) -> httpx.Response:
    return replica.client().post("/v1/chat/completions", json={"model": model, **fields})


class Exchange:
    """One request over raw ASGI, which can be watched and hung up in the middle."""

    def __init__(self, replica: Replica, body: bytes = b'{"model": "math", "stream": true}') -> None:
        self.replica, self.body = replica, body
        self.messages: list[dict[str, Any]] = []
        self.hung_up = asyncio.Event()
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "path": "/v1/chat/completions",
            "raw_path": b"/v1/chat/completions",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"content-type", b"application/json")],
        }
        sent = iter([{"type": "http.request", "body": self.body, "more_body": False}])

        async def receive() -> dict[str, Any]:
            message = next(sent, None)
            if message is None:
                await self.hung_up.wait()
                return {"type": "http.disconnect"}
            return message

        async def send(message: Any) -> None:
            self.messages.append(message)

        await self.replica.app(scope, receive, send)

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def text(self) -> str:
        return b"".join(message.get("body", b"") for message in self.messages).decode()


# Binding


def test_a_request_is_bound_to_its_module_counted_and_released() -> None:
    replica = Replica()
    answer = chat(replica)
    assert answer.json() == {"module": "separate-old", "running": {"separate-old": 1}}
    assert answer.headers[MODULE_HEADER] == "separate-old"
    assert replica.metrics.seen == [("math", "separate-old", 200, 7)]
    assert replica.is_idle()


def test_a_name_that_is_not_routed_is_bound_to_nothing() -> None:
    replica = Replica()
    answer = chat(replica, "ghost")
    assert answer.status_code == 404
    assert MODULE_HEADER not in answer.headers
    assert replica.metrics.seen == []
    assert replica.is_idle()


def test_an_exception_in_the_application_releases_the_module() -> None:
    replica = Replica()
    assert chat(replica, fails=True).status_code == 500
    assert replica.metrics.seen == [("math", "separate-old", 500, 0)]
    assert replica.is_idle()


def test_a_look_up_outside_any_request_counts_nothing() -> None:
    replica = Replica()
    assert replica.routes["math"] is OLD
    assert replica.is_idle()


def test_a_flip_during_a_stream_keeps_the_request_on_its_module() -> None:
    async def scenario() -> None:
        replica = Replica()
        running = Exchange(replica)
        await replica.began.wait()
        assert replica.routes.in_flight == {"separate-old": 1}
        replica.routes.replace({"math": NEW})
        later = Exchange(replica)
        await asyncio.sleep(0)
        replica.go_on.set()
        await asyncio.gather(running.task, later.task)
        assert running.text == "separate-old separate-old"
        assert later.text == "merged-new merged-new"
        assert running.headers[MODULE_HEADER.encode()] == b"separate-old"
        assert later.headers[MODULE_HEADER.encode()] == b"merged-new"
        assert replica.is_idle()
        assert sorted(module for _, module, _, _ in replica.metrics.seen) == ["merged-new", "separate-old"]

    asyncio.run(scenario())


def test_a_name_that_is_removed_during_a_stream_ends_in_peace() -> None:
    async def scenario() -> None:
        replica = Replica()
        running = Exchange(replica)
        await replica.began.wait()
        replica.routes.replace({})
        assert replica.routes.in_flight == {"separate-old": 1}
        replica.go_on.set()
        await running.task
        assert running.text == "separate-old separate-old"
        assert replica.is_idle()

    asyncio.run(scenario())


def test_counts_are_exact_while_many_streams_run() -> None:
    async def scenario() -> None:
        replica = Replica()
        running = [Exchange(replica) for _ in range(5)]
        await replica.began.wait()
        while replica.routes.in_flight["separate-old"] < 5:
            await asyncio.sleep(0)
        assert replica.app.num_requests == 5
        replica.go_on.set()
        await asyncio.gather(*(one.task for one in running))
        assert replica.is_idle()

    asyncio.run(scenario())


def test_a_client_that_hangs_up_releases_the_module() -> None:
    async def scenario() -> None:
        replica = Replica()
        running = Exchange(replica)
        await replica.began.wait()
        running.hung_up.set()
        await asyncio.wait_for(running.task, 5)
        assert replica.ended.is_set()
        assert replica.is_idle()
        assert replica.metrics.seen == [("math", "separate-old", 200, 0)], "the answer had begun"

    asyncio.run(scenario())


def test_a_request_that_is_cancelled_before_it_answers_is_recorded_as_left() -> None:
    async def scenario() -> None:
        replica = Replica()

        async def never(scope: Any, receive: Any, send: Any) -> None:
            replica.look_up("math")
            await asyncio.sleep(60)

        replica.app.app = never
        running = Exchange(replica)
        while not replica.routes.in_flight:
            await asyncio.sleep(0)
        running.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running.task
        assert replica.is_idle()
        assert replica.metrics.seen == [("math", "separate-old", CLIENT_LEFT, 0)]

    asyncio.run(scenario())


# Admission


def test_a_saturated_replica_answers_429_and_recovers() -> None:
    async def scenario() -> None:
        replica = Replica(max_requests=1)
        running = Exchange(replica)
        await replica.began.wait()
        refused = Exchange(replica)
        await refused.task
        assert refused.status == 429
        assert int(refused.headers[b"retry-after"]) > 0
        assert '"code":"saturated"' in refused.text
        assert replica.app.num_requests == 1, "a refusal is no running request"
        replica.go_on.set()
        await running.task
        again = Exchange(replica)
        await again.task
        assert again.status == 200
        assert replica.metrics.reasons == ["saturated"]

    asyncio.run(scenario())


def test_health_answers_on_a_saturated_replica() -> None:
    client = Replica(max_requests=0).client()
    assert client.get("/v1/models").status_code == 429
    assert {client.get(path).status_code for path in OPEN_PATHS} == {200}


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
def test_open_paths_want_no_key(path: str) -> None:
    assert Replica("data", "admin").client().get(path).status_code == 200


@pytest.mark.parametrize(
    ("path", "right", "wrong"),
    [("/v1/models", "data", "admin"), *((path, "admin", "data") for path in sorted(ADMIN_PATHS))],
)
def test_each_plane_has_its_own_key(path: str, right: str, wrong: str) -> None:
    replica = Replica("data", "admin")
    client = replica.client()
    assert client.post(path, headers={"Authorization": f"Bearer {right}"}).status_code == 200
    for headers in ({}, {"Authorization": f"Bearer {wrong}"}, {"Authorization": right}):
        answer = client.post(path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["type"] == "authentication_error"
    assert replica.metrics.reasons == ["missing_api_key", "invalid_api_key", "missing_api_key"]
    assert replica.is_idle()


def test_the_word_bearer_may_be_spelt_in_any_case() -> None:
    assert Replica("data").client().get("/v1/models", headers={"Authorization": "bearer data"}).status_code == 200


def test_a_web_socket_needs_the_key_too() -> None:
    replica = Replica("data")
    client = replica.client()
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/v1/realtime"):
        pass
    assert replica.metrics.reasons == ["missing_api_key"]
    with client.websocket_connect("/v1/realtime", headers={"Authorization": "Bearer data"}) as socket:
        assert socket.receive_json() == {"running": 1}
    assert replica.is_idle()


def test_start_up_and_shut_down_pass_through() -> None:
    with Replica("data").client() as client:
        assert client.get("/health").status_code == 200
