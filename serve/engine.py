"""The engine deployment: Ray Serve LLM around vLLM, with our routing table inside.

Ray keeps the engine's life cycle, placement groups and TP/PP; vLLM keeps the whole OpenAI surface. We add a routing
table that can be flipped, exact counts of running requests, and orders for the controller.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from fastapi import FastAPI, Response
from ray import serve as ray_serve
from ray.serve.llm import LLMConfig, LLMServer
from vllm import SamplingParams
from vllm.entrypoints.openai.models.serving import OpenAIServingModels
from vllm.entrypoints.serve.engine.protocol import ModelCard, ModelList
from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.utils import random_uuid

from probe.encoding import encode_row
from probe.rows import Answer, Row
from router.engine import EngineError, ReplicaView
from router.records import RoutingTable
from router.registry import Registry
from router.store import Store
from serve.answering import answer, question
from serve.config import Config
from serve.controller_handle import forward_drop_in
from serve.errors import HttpError, error_response
from serve.ingress import Admission, Ingress
from serve.loopback import keep_replica_on_loopback
from serve.model_cards import describe_route
from serve.request_metrics import RequestMetrics
from serve.routing import LiveRoutes, current_call

log = logging.getLogger("ray.serve")

DECODED_AT_ONCE = 4
"""Generated rows for one forced row: they add a token to most steps, a forced row adds its whole prompt to one."""


class BankModels(OpenAIServingModels):
    """vLLM's list of served models, answering by the names that clients use."""

    table: RoutingTable
    lora_requests: LiveRoutes

    @classmethod
    def adopt(cls, models: OpenAIServingModels) -> BankModels:
        """Turn the object that vLLM's handlers already share into ours; it has no other seam for a subclass."""
        models.__class__ = cls
        assert isinstance(models, BankModels)
        models.lora_requests, models.table = LiveRoutes(), RoutingTable()
        return models

    def model_name(self, lora_request: LoRARequest | None = None) -> str:
        """Return the name that the running request asked for: vLLM writes it into the answer and its chunks."""
        call = current_call.get()
        if lora_request is not None and call is not None and call.name is not None:
            return call.name
        return str(super().model_name(lora_request))

    async def show_available_models(self) -> ModelList:
        """List the base and every adapter, each with the `mergeprobe` object."""
        cards = await self.registry.show_available_models()
        base = cards.data[0]
        for route in self.table.routes:
            described = describe_route(route, self.table.epoch)
            cards.data.append(base.model_copy(update={"id": route.adapter, "parent": base.id, **described}))
        return cards

    async def card(self, name: str) -> ModelCard | None:
        """Return one model's card, by `name` or `base:name`; None where nothing has that name."""
        base = self.base_model_paths[0].name
        wanted = name.removeprefix(f"{base}:")
        cards = await self.show_available_models()
        return next((card for card in cards.data if card.id == wanted), None)


class EngineServer(LLMServer):  # type: ignore[misc]
    """One replica: vLLM, its live routing table, and the controller's orders (see `router.engine.Engine`)."""

    async def __init__(self, llm_config: LLMConfig, *, config: Config) -> None:
        keep_replica_on_loopback()
        self.config = config
        self.registry, self.store = Registry(config.registry), Store(config.store)
        self.loaded: dict[str, LoRARequest] = {}
        self.request_metrics = RequestMetrics()
        self._next_id = 1
        self._order = asyncio.Lock()
        at_once = config.verify.max_concurrent_rows
        self._room = {"forced": asyncio.Semaphore(at_once), "generated": asyncio.Semaphore(DECODED_AT_ONCE * at_once)}
        await super().__init__(llm_config)

    async def start(self) -> None:
        """Start vLLM and take the committed epoch, before Ray sends the first request here."""
        await super().start()
        self.client = self.engine._engine_client
        self.models = BankModels.adopt(self.engine._oai_models)
        await self.sync()

    async def check_health(self) -> None:
        """Check the engine, and catch up with an epoch that this replica missed."""
        await super().check_health()
        try:
            await self.sync()
        except Exception:
            log.exception("this replica could not catch up with the registry's epoch; it keeps serving its own")

    async def sync(self) -> None:
        """Route by the registry's current epoch."""
        if await asyncio.to_thread(self.registry.epoch) <= self.models.table.epoch:
            return
        table = await asyncio.to_thread(self.registry.table)
        for module in sorted(table.modules):
            await self.load(module, str(self.store.module_path(module)))
        await self.flip(table)

    async def view(self) -> ReplicaView:
        """Say what this replica has and runs; residency is asked of vLLM, not remembered."""
        ids = await self.client.list_loras()
        resident = frozenset(name for name, request in self.loaded.items() if request.lora_int_id in ids)
        replica = ray_serve.get_replica_context().replica_id.unique_id
        return ReplicaView(
            replica=replica,
            epoch=self.models.table.epoch,
            resident=resident,
            in_flight=dict(self.models.lora_requests.in_flight),
            answered=dict(self.request_metrics.answered),
        )

    async def load(self, module: str, path: str) -> None:
        """Make a module resident; see `router.engine.Engine.load`."""
        async with self._order:
            request = self.loaded.get(module) or LoRARequest(module, self._take_id(), path)
            try:
                await self.client.add_lora(request)
            except Exception as error:
                raise EngineError(f"vLLM cannot load module {module} from {path}: {error}") from None
            self.loaded[module] = request

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id

    async def unload(self, module: str) -> None:
        """Free a module's slot; see `router.engine.Engine.unload`."""
        async with self._order:
            self._check_idle(module)
            request = self.loaded.get(module)
            if request is None:
                return
            await self.client.remove_lora(request.lora_int_id)
            if request.lora_int_id in await self.client.list_loras():
                raise EngineError(f"vLLM still holds module {module} after it was told to remove it")
            del self.loaded[module]

    def _check_idle(self, module: str) -> None:
        running = self.models.lora_requests.in_flight[module]
        if running or module in self.models.table.modules:
            why = f"{running} requests run on it" if running else f"epoch {self.models.table.epoch} routes to it"
            raise EngineError(f"module {module} cannot be unloaded: {why}")

    async def flip(self, table: RoutingTable) -> None:
        """Route by a newer table at once; see `router.engine.Engine.flip`."""
        if table.epoch < self.models.table.epoch:
            raise EngineError(
                f"epoch {table.epoch} is older than epoch {self.models.table.epoch}, which this replica has"
            )
        if missing := sorted(table.modules - self.loaded.keys()):
            raise EngineError(f"epoch {table.epoch} routes to modules that are not loaded here: {', '.join(missing)}")
        names = {route.adapter: self.loaded[route.module] for route in table.routes}
        base = self.config.base.name
        self.models.lora_requests.replace(names | {f"{base}:{name}": module for name, module in names.items()})
        self.models.table = table

    async def measure(self, module: str | None, rows: Sequence[Row]) -> tuple[Answer, ...]:
        """Answer evaluation rows by a module that need not be routed to; see `router.engine.Engine.measure`."""
        if module is not None and module not in self.loaded:
            raise EngineError(f"module {module} is not loaded here, so it cannot be measured")
        request = self.loaded[module] if module else None
        return tuple(await asyncio.gather(*(self._answer(row, request) for row in rows)))

    async def _answer(self, row: Row, request: LoRARequest | None) -> Answer:
        encoded = encode_row(self.client.get_tokenizer(), row)
        async with self._room[row.scorer]:
            return answer(row, encoded, await self._generate(*question(row, encoded), request))

    async def _generate(self, ids: list[int], params: SamplingParams, request: LoRARequest | None) -> RequestOutput:
        prompt = {"prompt_token_ids": ids}
        async for output in self.client.generate(prompt, params, random_uuid(), lora_request=request):
            final = output
        return final

    async def __serve_build_asgi_app__(self) -> FastAPI:
        """Return vLLM's own application inside our ingress, with the routes that vLLM lacks."""
        app: FastAPI = await self.engine.build_asgi_app()
        app.middleware_stack = None  # vLLM has built it already; clearing it lets Starlette build it again with ours
        engine, server = self.config.engine, self.config.server
        admission = Admission(
            server.api_key, server.admin_key, engine.max_ongoing_requests + engine.max_queued_requests
        )
        routes = self.models.lora_requests
        app.add_middleware(Ingress, routes=routes, admission=admission, metrics=self.request_metrics)
        app.add_api_route("/v1/models/{name:path}", self._retrieve_model, methods=["GET"])
        for path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter"):
            app.add_api_route(path, forward_drop_in, methods=["POST"])
        return app

    async def _retrieve_model(self, name: str) -> Response:
        card = await self.models.card(name)
        if card is None:
            return error_response(HttpError(404, f"The model `{name}` does not exist.", "model_not_found", "model"))
        return Response(card.model_dump_json(), media_type="application/json")
