"""What every request to a replica passes: keys, admission, binding to a module, headers and counting.

One ASGI middleware around vLLM's own application, so there is no second hop and no body is read here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from serve.errors import HttpError, error_response
from serve.keys import check_key
from serve.request_metrics import RequestMetrics
from serve.routing import Call, LiveRoutes, current_call

OPEN_PATHS = frozenset({"/health", "/ping", "/version"})
ADMIN_PATHS = frozenset({"/v1/load_lora_adapter", "/v1/unload_lora_adapter"})
CLIENT_LEFT = 499
"""Recorded where the client hung up before the answer began; the number is nginx's custom."""
MODULE_HEADER = "x-mergeprobe-module"


@dataclass(frozen=True, slots=True)
class Admission:
    """Keys and the cap on requests that a replica holds at once."""

    api_key: str | None
    admin_key: str | None
    max_requests: int


class Ingress:
    """ASGI middleware: admit, bind, serve, count."""

    def __init__(self, app: ASGIApp, *, routes: LiveRoutes, admission: Admission, metrics: RequestMetrics) -> None:
        self.app, self.routes, self.admission, self.metrics = app, routes, admission, metrics
        self.num_requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it before vLLM sees it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        try:
            self._admit(scope)
        except HttpError as error:
            self.metrics.rejected(error.code)
            await _refusal(error, scope)(scope, receive, send)
            return
        await self._serve(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        path = scope["path"]
        if path in OPEN_PATHS:
            return
        plane, key = (
            ("admin plane", self.admission.admin_key) if path in ADMIN_PATHS else ("data plane", self.admission.api_key)
        )
        check_key(Headers(scope=scope), key, plane)
        if self.num_requests >= self.admission.max_requests:
            message = f"{self.num_requests} requests are running or waiting here, the most this replica takes; retry"
            raise HttpError(429, message, "saturated", retry_after_seconds=1)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        call, began, status = Call(), time.perf_counter(), CLIENT_LEFT

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if call.module is not None:
                    MutableHeaders(scope=message)[MODULE_HEADER] = call.module.lora_name
            await send(message)

        token = current_call.set(call)
        self.num_requests += 1
        try:
            await self.app(scope, receive, send_named)
        except Exception:
            status = 500
            raise
        finally:
            self.num_requests -= 1
            self.routes.release(call)
            current_call.reset(token)
            if call.name is not None:
                self.metrics.finished(call, status, time.perf_counter() - began, _generated_tokens(scope))


def _refusal(error: HttpError, scope: Scope) -> ASGIApp:
    """Return the answer to a request that is not admitted; a web socket is closed before it opens."""
    if scope["type"] == "websocket":
        return WebSocketClose(code=1008, reason=str(error))
    return error_response(error)


def _generated_tokens(scope: Scope) -> int:
    """Read the usage that vLLM leaves in the request's state; 0 where it left none."""
    metadata = scope.get("state", {}).get("request_metadata")
    usage = getattr(metadata, "final_usage_info", None)
    return getattr(usage, "completion_tokens", None) or 0
