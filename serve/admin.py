"""The admin plane: `/bank`, answered by the one controller deployment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from probe.records import MergeProbeError
from router.engine import EngineError, ReplicaView
from router.intake import Registration
from router.records import Plan, PlanState
from router.registry import Registry
from serve.acts import Acts
from serve.clockwork import Clockwork
from serve.config import Config
from serve.early.forecasts import EarlyForecasts
from serve.early.source import ForecastBody
from serve.errors import HttpError, error_response, to_http
from serve.keys import check_key
from serve.plan_view import PlanView
from serve.registrar import Registrar
from serve.signals.thread import SignalThread

Limit = Annotated[int, Query(ge=1, le=1000)]
DROP_IN_FIELDS = {"name": "lora_name", "source": "lora_path"}
"""Field of a registration -> what vLLM's bodies call it."""


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


class ActBody(BaseModel):
    """Body of `POST /bank/plans/{id}/approve`, `reject` and `rollback`: who and why, for the audit log.

    `by` is what the client says; all that the server itself knows is that the admin key was right.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    by: str | None = Field(None, min_length=1, max_length=100)
    reason: str = Field("", max_length=1000)


class UnloadBody(BaseModel):
    """Body of `POST /v1/unload_lora_adapter`; vLLM's further fields mean nothing here."""

    model_config = ConfigDict(strict=True)
    lora_name: str


class LoadBody(UnloadBody):
    """Body of `POST /v1/load_lora_adapter`."""

    lora_path: str


@dataclass(frozen=True, slots=True)
class Bank:
    """What the admin routes work on."""

    config: Config
    registry: Registry
    registrar: Registrar
    clockwork: Clockwork
    signals: SignalThread
    wants_signals: bool
    """Whether anything here reads signals: forecasts, or an operator."""
    acts: Acts
    show_plan: PlanView
    preview: Callable[[Plan], Plan]
    """Decides without acting."""
    describe_planning: Callable[[], str]
    early_forecasts: EarlyForecasts
    views: Callable[[], tuple[ReplicaView, ...]]
    exposition: Callable[[], bytes]


def admin_app(bank: Bank) -> FastAPI:
    """Return the admin application."""
    app = FastAPI(title="MergeProbe bank", docs_url=None, redoc_url=None)
    for routes in (_bank_routes(bank), _adapter_routes(bank), _plan_routes(bank)):
        app.include_router(routes)
    app.add_exception_handler(MergeProbeError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_malformed)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_bug)

    @app.middleware("http")
    async def keyed(request: Request, call_next: Any) -> Response:
        if request.scope["path"] == request.scope.get("root_path"):
            request.scope["path"] += "/"  # `GET /bank` itself: Ray strips its prefix, and no route may be empty
        if request.scope["path"].removeprefix(request.scope.get("root_path", "")) != "/health":
            try:
                check_key(request.headers, bank.config.server.admin_key, "admin plane")
            except HttpError as error:
                return error_response(error)
        answer: Response = await call_next(request)
        return answer

    return app


def _bank_routes(bank: Bank) -> APIRouter:
    """Answer what is asked of the bank as a whole."""
    routes = APIRouter()

    @routes.get("/health")
    def health() -> JSONResponse:
        try:
            replicas = len(bank.views())
        except EngineError as error:
            raise HttpError(503, str(error), "engine_not_ready", retry_after_seconds=5) from None
        told = {"status": "ok", "epoch": bank.registry.epoch(), "replicas": replicas}
        return JSONResponse(told | {"planned": bank.describe_planning()})

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
            "warning": bank.show_plan.warning(),
            "adapters": bank.registrar.describe_all(),
        }

    @routes.get("/events")
    def list_events(limit: Limit = 100) -> JSONResponse:
        events = TypeAdapter(list[Any]).dump_python(list(bank.registry.events(limit)), mode="json")
        return JSONResponse({"events": events})

    @routes.get("/metrics")
    def metrics() -> Response:
        return Response(bank.exposition(), media_type="text/plain; version=0.0.4")

    return routes


def _adapter_routes(bank: Bank) -> APIRouter:
    """Register, show and remove adapters, and forecast one that is not registered."""
    routes = APIRouter()

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

    @routes.post("/forecast")
    def forecast(body: ForecastBody) -> dict[str, Any]:
        return bank.early_forecasts.answer(body)

    return routes


def _plan_routes(bank: Bank) -> APIRouter:
    """Plan, show plans, and let people act on them."""
    routes = APIRouter()

    @routes.post("/replan", status_code=202)
    def replan(body: ReplanBody | None = None) -> dict[str, Any]:
        if body is None or body.apply:
            return bank.show_plan(bank.clockwork.ask())
        preview = bank.preview(bank.clockwork.new_plan(PlanState.PROPOSED))
        bank.registry.put_plan(preview)
        return bank.show_plan(preview)

    @routes.get("/plans")
    def list_plans(limit: Limit = 20) -> dict[str, Any]:
        return {"plans": [bank.show_plan(plan) for plan in bank.registry.plans(limit)]}

    @routes.get("/plans/{plan_id}")
    def show_plan(plan_id: str) -> dict[str, Any]:
        return bank.show_plan(bank.registry.plan(plan_id))

    @routes.post("/plans/{plan_id}/approve", status_code=202)
    def approve(plan_id: str, body: ActBody | None = None) -> dict[str, Any]:
        return bank.show_plan(bank.acts.approve(plan_id, *_signature(bank, body)))

    @routes.post("/plans/{plan_id}/reject")
    def reject(plan_id: str, body: ActBody | None = None) -> dict[str, Any]:
        return bank.show_plan(bank.acts.reject(plan_id, *_signature(bank, body)))

    @routes.post("/plans/{plan_id}/rollback", status_code=202)
    def rollback(plan_id: str, body: ActBody | None = None) -> dict[str, Any]:
        return bank.show_plan(bank.acts.rollback(plan_id, *_signature(bank, body)))

    return routes


def _signature(bank: Bank, body: ActBody | None) -> tuple[str, str]:
    """Return who acts, and why."""
    nobody = "the holder of the admin key" if bank.config.server.admin_key else "somebody (no admin key is set)"
    return (body.by or nobody, body.reason) if body else (nobody, "")


def drop_in(bank: Bank, verb: str, body: bytes) -> tuple[int, str | dict[str, object]]:
    """Carry out vLLM's `load_lora_adapter` or `unload_lora_adapter`; the answers are vLLM's too."""
    try:
        if verb == "unload_lora_adapter":
            return 200, _unload(bank, UnloadBody.model_validate_json(body))
        return 200, _load(bank, LoadBody.model_validate_json(body))
    except ValidationError as error:
        wrong = HttpError(400, f"{verb}: {_first_problem(error.errors()[0])}", "malformed")
    except MergeProbeError as error:
        wrong = to_http(error)
        wrong.param = DROP_IN_FIELDS.get(wrong.param or "", wrong.param)
    return wrong.status, wrong.envelope()


def _load(bank: Bank, asked: LoadBody) -> str:
    adapter, _ = bank.registrar.register(Registration(name=asked.lora_name, source=asked.lora_path), None)
    bank.clockwork.poke()
    bank.registrar.wait_until_served(adapter)
    return f"Success: LoRA adapter '{asked.lora_name}' added successfully."


def _unload(bank: Bank, asked: UnloadBody) -> str:
    bank.registrar.remove(asked.lora_name, force=False)
    bank.clockwork.poke()
    bank.registrar.wait_until_gone(asked.lora_name)
    return f"Success: LoRA adapter '{asked.lora_name}' removed successfully."


async def _answer_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, MergeProbeError)
    return error_response(to_http(error))


async def _answer_malformed(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return error_response(HttpError(400, _first_problem(first), "malformed", _field(first) or None))


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_response(HttpError(error.status_code, f"{request.url.path}: {error.detail}", "http_error"))


async def _answer_bug(_: Request, error: Exception) -> Response:
    message = f"the controller failed ({type(error).__name__}); its log says where"
    return error_response(HttpError(500, message, "internal_error"))


def _first_problem(problem: Mapping[str, Any]) -> str:
    return f"{_field(problem) or 'body'}: {problem['msg']}"


def _field(problem: Mapping[str, Any]) -> str:
    """Return the field that pydantic complains about, "" where it is the body as a whole."""
    if problem["type"] == "json_invalid":  # FastAPI puts the offset of the bad character where a field would be
        return ""
    return ".".join(str(part) for part in problem["loc"] if part not in ("body", "query", "path"))
