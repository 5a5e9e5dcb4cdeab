"""The admin plane: `/bank`, answered by the one controller deployment."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, TypeAdapter
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from probe.records import MergeProbeError
from router.engine import EngineError, ReplicaView
from router.intake import Registration
from router.records import Plan, PlanState
from router.registry import Registry
from serve.clockwork import Clockwork
from serve.config import Config
from serve.errors import HttpError, error_response, to_http
from serve.keys import check_key
from serve.registrar import Registrar

PLAN = TypeAdapter(Plan)


class RegisterBody(BaseModel):
    """Body of `POST /bank/adapters`."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: str
    source: str
    domain: str | None = None
    protected: bool = False
    calibration: str | None = None
    evaluation: str | None = None
    expected_revision: str | None = None


class ReplanBody(BaseModel):
    """Body of `POST /bank/replan`; `apply: false` plans without changing or measuring anything."""

    model_config = ConfigDict(extra="forbid", strict=True)
    apply: bool = True


@dataclass(frozen=True, slots=True)
class Bank:
    """What the admin routes work on."""

    config: Config
    registry: Registry
    registrar: Registrar
    clockwork: Clockwork
    preview: Callable[[Plan], Plan]
    """Decides without acting."""
    views: Callable[[], tuple[ReplicaView, ...]]
    exposition: Callable[[], bytes]


def admin_app(bank: Bank) -> FastAPI:
    """Return the admin application."""
    app = FastAPI(title="MergeProbe bank", docs_url=None, redoc_url=None)
    app.include_router(_routes(bank))
    app.add_exception_handler(MergeProbeError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_malformed)
    app.add_exception_handler(HTTPException, _answer_http)

    @app.middleware("http")
    async def keyed(request: Request, call_next: Any) -> Response:
        if request.scope["path"] == request.scope.get("root_path"):
            request.scope["path"] += "/"  # `GET /bank` itself: Ray strips its prefix, and no route may be empty
        if not request.url.path.endswith("/health"):
            try:
                check_key(request.headers, bank.config.server.admin_key, "admin plane")
            except HttpError as error:
                return error_response(error)
        answer: Response = await call_next(request)
        return answer

    return app


def _routes(bank: Bank) -> APIRouter:
    routes = APIRouter()

    @routes.get("/health")
    def health() -> JSONResponse:
        try:
            replicas = len(bank.views())
        except EngineError as error:
            raise HttpError(503, str(error), "engine_not_ready", retry_after_seconds=5) from None
        return JSONResponse({"status": "ok", "epoch": bank.registry.epoch(), "replicas": replicas})

    @routes.get("/")
    def summary() -> dict[str, Any]:
        table, adapters = bank.registry.table(), bank.registry.adapters()
        return {
            "base": bank.config.base.name,
            "epoch": table.epoch,
            "registered_adapters": len(adapters),
            "active_adapters": len(table.modules),
            "slots_saved": len(table.routes) - len(table.modules),
            "plan_cost": bank.config.policy.lambda_cost * len(table.modules),
            "adapters": bank.registrar.describe_all(),
        }

    @routes.get("/adapters")
    def list_adapters() -> dict[str, Any]:
        return {"adapters": bank.registrar.describe_all()}

    @routes.post("/adapters")
    def register(body: RegisterBody) -> JSONResponse:
        registration = Registration(**body.model_dump(exclude={"expected_revision"}))
        adapter, is_news = bank.registrar.register(registration, body.expected_revision)
        if is_news:
            bank.clockwork.poke()
        return JSONResponse(bank.registrar.describe(adapter.name), status_code=201 if is_news else 200)

    @routes.get("/adapters/{name}")
    def show(name: str) -> dict[str, Any]:
        return bank.registrar.describe(name)

    @routes.delete("/adapters/{name}", status_code=202)
    def remove(name: str, force: bool = False) -> dict[str, Any]:
        bank.registrar.remove(name, force)
        bank.clockwork.poke()
        return bank.registrar.describe(name)

    @routes.post("/replan", status_code=202)
    def replan(body: ReplanBody | None = None) -> dict[str, Any]:
        if body is None or body.apply:
            return _plan(bank.clockwork.ask())
        preview = bank.preview(bank.clockwork.new_plan(PlanState.PROPOSED))
        bank.registry.put_plan(preview)
        return _plan(preview)

    @routes.get("/plans")
    def list_plans(limit: int = 20) -> dict[str, Any]:
        return {"plans": [_plan(plan) for plan in bank.registry.plans(limit)]}

    @routes.get("/plans/{plan_id}")
    def show_plan(plan_id: str) -> dict[str, Any]:
        return _plan(bank.registry.plan(plan_id))

    @routes.get("/events")
    def list_events(limit: int = 100) -> JSONResponse:
        events = TypeAdapter(list[Any]).dump_python(list(bank.registry.events(limit)), mode="json")
        return JSONResponse({"events": events})

    @routes.get("/metrics")
    def metrics() -> Response:
        return Response(bank.exposition(), media_type="text/plain; version=0.0.4")

    return routes


def drop_in(bank: Bank, verb: str, body: bytes) -> tuple[int, str | dict[str, object]]:
    """Carry out vLLM's `load_lora_adapter` or `unload_lora_adapter`; the answers are vLLM's too."""
    try:
        asked = json.loads(body)
        name = asked["lora_name"]
        if verb == "unload_lora_adapter":
            bank.registrar.remove(name, force=False)
            bank.clockwork.poke()
            bank.registrar.wait_until_gone(name)
            return 200, f"Success: LoRA adapter '{name}' removed successfully."
        adapter, _ = bank.registrar.register(Registration(name=name, source=asked["lora_path"]), None)
        bank.clockwork.poke()
        bank.registrar.wait_until_served(adapter)
        return 200, f"Success: LoRA adapter '{name}' added successfully."
    except (ValueError, KeyError, TypeError) as error:
        wrong = HttpError(400, f"{verb} needs a JSON body with lora_name and lora_path: {error!r}", "malformed")
    except MergeProbeError as error:
        wrong = to_http(error)
    return wrong.status, wrong.envelope()


def _plan(plan: Plan) -> dict[str, Any]:
    dumped: dict[str, Any] = PLAN.dump_python(plan, mode="json")
    return dumped


async def _answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, MergeProbeError)
    return error_response(to_http(error))


async def _answer_malformed(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    return error_response(HttpError(400, f"{where or 'body'}: {first['msg']}", "malformed", where or None))


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_response(HttpError(error.status_code, f"{request.url.path}: {error.detail}", "http_error"))
