"""Composition root: from a configuration to two Ray Serve applications. Objects are wired here and nowhere else."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from ray import serve as ray_serve
from ray.serve.config import HTTPOptions
from ray.serve.deployment import Application
from ray.serve.llm import LLMConfig, build_llm_deployment

from router.registry import Registry
from serve.base_model import base_folder
from serve.config import Config
from serve.controller_app import bank_app
from serve.controller_handle import BANK_APP
from serve.doctor import StartError
from serve.engine import EngineServer
from serve.engine_arguments import engine_env, engine_kwargs

ENGINE_APP = "engine"
ENGINE_DEPLOYMENT = "EngineServer"
MIN_LOGICAL_CPUS = 8
"""Ray counts CPUs only to place actors; engine, controller, proxy and jobs must all find a place on a small machine."""

CHATTY = ("alembic", "httpx", "ray", "ray.serve")


def llm_config(config: Config, base: Path) -> LLMConfig:
    """Translate our configuration into Ray Serve LLM's."""
    engine = config.engine
    capacity = engine.max_ongoing_requests + engine.max_queued_requests
    return LLMConfig(
        model_loading_config={"model_id": config.base.name, "model_source": str(base)},
        accelerator_config={"kind": engine.accelerator},
        engine_kwargs=engine_kwargs(config, base),
        placement_group_config=engine.placement_group,
        deployment_config={
            "num_replicas": 1,
            # Above our own cap, so that the replica answers 429 itself instead of Ray letting requests wait unseen.
            "max_ongoing_requests": 2 * capacity,
            **engine.deployment,
        },
        runtime_env={"env_vars": engine_env(config)},
        log_engine_metrics=False,
    )


def engine_app(config: Config, base: Path) -> Application:
    """Return the engine application: vLLM behind the OpenAI surface, at `/`."""
    return build_llm_deployment(
        llm_config(config, base),
        override_serve_options={"name": ENGINE_DEPLOYMENT},
        bind_kwargs={"config": config},
        deployment_cls=ray_serve.ingress()(EngineServer),
    )


@contextmanager
def running(config: Config, address: str | None, progress: Callable[[str], None]) -> Iterator[None]:
    """Run the bank inside the block: unpack the base, start or join Ray, deploy both applications.

    Parameters
    ----------
    address
        A running Ray cluster to join; None starts a private one on the loopback interface.
    progress
        Told what is being waited for.
    """
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    progress("preparing the base model and the registry")
    base = base_folder(config)
    Registry(config.registry).migrate()
    progress("starting Ray" if address is None else f"joining Ray at {address}")
    _start_ray(config, address)
    progress(f"Ray is at {ray.get_runtime_context().gcs_address}")
    try:
        progress("starting the engine (vLLM takes a minute or two)")
        _deploy(engine_app(config, base), ENGINE_APP, "/")
        progress("starting the controller")
        _deploy(bank_app(config, base, ENGINE_APP, ENGINE_DEPLOYMENT), BANK_APP, "/bank")
        yield
    finally:
        ray_serve.shutdown()
        ray.shutdown()


def _start_ray(config: Config, address: str | None) -> None:
    if address:
        ray.init(address=address, namespace="serve", log_to_driver=False)
    else:
        ray.init(
            namespace="serve",
            num_cpus=max(MIN_LOGICAL_CPUS, os.cpu_count() or 1),
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            _metrics_export_port=config.server.metrics_port,
            log_to_driver=False,
        )
    ray_serve.start(http_options=HTTPOptions(host=config.server.host, port=config.server.port))


def _deploy(app: Application, name: str, route_prefix: str) -> None:
    try:
        ray_serve.run(app, name=name, route_prefix=route_prefix)
    except RuntimeError as error:
        told = [deployment.message for deployment in ray_serve.status().applications[name].deployments.values()]
        raise StartError(f"the {name} did not start: {' '.join(told) or error}") from None
