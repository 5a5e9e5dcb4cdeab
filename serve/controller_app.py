"""The controller deployment: one Ray actor that runs the clockwork and answers for all of `/bank`."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fastapi import FastAPI
from ray import serve as ray_serve
from ray.serve.deployment import Application

from serve.admin import admin_app, drop_in
from serve.config import Config
from serve.controller_handle import CONTROLLER
from serve.fleet import Fleet
from serve.limited.task import Workers
from serve.loopback import keep_replica_on_loopback
from serve.merge_job import RayMerge
from serve.signals.job import RaySignals
from serve.wiring import build_bank


class ControllerServer:
    """One Ray actor: the clockwork's thread, and the admin application."""

    def __init__(self, config: Config, base: Path, engine_app: str, engine_deployment: str) -> None:
        keep_replica_on_loopback()
        handle = ray_serve.get_deployment_handle(engine_deployment, app_name=engine_app)
        workers = Workers()
        self.bank = build_bank(
            config,
            base,
            Fleet(handle),
            RayMerge(config.merge, workers),
            lambda place: RaySignals(place, config.signals, workers),
        )
        self.bank.clockwork.start()
        if self.bank.wants_signals:
            self.bank.signals.start()

    async def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the admin application."""
        return admin_app(self.bank)

    async def drop_in(self, verb: str, body: bytes) -> tuple[int, str | dict[str, object]]:
        """Carry out one of vLLM's LoRA routes for a replica that received it."""
        return await asyncio.to_thread(drop_in, self.bank, verb, body)


def bank_app(config: Config, base: Path, engine_app: str, engine_deployment: str) -> Application:
    """Return the bank application: the one controller."""
    deployed = ray_serve.deployment(
        name=CONTROLLER,
        num_replicas=1,
        max_ongoing_requests=64,
        ray_actor_options={"num_cpus": 1},
        graceful_shutdown_timeout_s=5,
    )
    return deployed(ray_serve.ingress()(ControllerServer)).bind(config, base, engine_app, engine_deployment)
