"""How a replica reaches the controller: vLLM's two LoRA routes are admin acts, so they are forwarded to it."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from ray import serve as ray_serve

BANK_APP = "bank"
CONTROLLER = "Controller"


async def forward_drop_in(request: Request) -> Response:
    """Hand a `load_lora_adapter` or `unload_lora_adapter` body to the controller and return its answer."""
    controller = ray_serve.get_deployment_handle(CONTROLLER, app_name=BANK_APP)
    verb = request.url.path.rsplit("/", 1)[-1]
    status, content = await controller.drop_in.remote(verb, await request.body())
    return PlainTextResponse(content, status) if isinstance(content, str) else JSONResponse(content, status)
