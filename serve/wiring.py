"""Wiring: the controller, its clockwork and the admin plane around an engine. Knows nothing of Ray."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path

from probe.operators import OUTPUT_RANKS
from probe.reference import Reference
from router.engine import Engine, EngineError, ReplicaView
from router.intake import Limits, take_in
from router.planner import Settings, WeightsOnlyPlanner
from router.registry import Registry
from router.store import Store
from serve.admin import Bank
from serve.affinities import Affinities
from serve.base_model import adaptable_shapes
from serve.clockwork import Clockwork
from serve.config import Config, PolicyConfig
from serve.controller import Controller
from serve.merging import Merge
from serve.metrics import BankCollector, ControllerMetrics
from serve.modules import ModuleBuilder
from serve.registrar import Registrar
from serve.rollout import Rollout
from serve.verification import Reference as ReferenceAnswers
from serve.verification import Scores, Verifier


def utc_now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def planner_settings(policy: PolicyConfig, max_rank: int) -> Settings:
    """Translate the policy section for the planner."""
    return Settings(
        target_retention=policy.target_retention,
        lambda_cost=policy.lambda_cost,
        hysteresis=policy.hysteresis,
        protected_domains=policy.protected_domains,
        max_group_size=policy.max_group_size,
        max_trials=policy.max_trials,
        recipes=policy.recipes,
        output_ranks=tuple(rank for rank in OUTPUT_RANKS if rank <= max_rank),
    )


def offline_reference(base: Path) -> ReferenceAnswers:
    """Return a reference that loads the base when it is first asked, and keeps it."""
    load = cache(partial(Reference, base))
    return lambda rows, adapter: load().answers(rows, adapter)


def build_bank(config: Config, base: Path, engine: Engine, merge: Merge) -> Bank:
    """Wire the controller and the admin plane around an engine and a way to merge; nothing starts yet."""
    registry, store = Registry(config.registry), Store(config.store)
    registry.migrate()
    metrics = ControllerMetrics()
    reference = offline_reference(base) if config.verify.reference else None
    scores = Scores(engine, registry, store)
    verifier = Verifier(scores, config.verify, config.policy.target_retention, reference)
    modules = ModuleBuilder(registry, store, config.base.name, merge)
    controller = Controller(
        registry=registry,
        planner=WeightsOnlyPlanner(planner_settings(config.policy, config.engine.max_lora_rank)),
        rollout=Rollout(registry, engine, modules, verifier, metrics),
        modules=modules,
        verifier=verifier,
        affinities=Affinities(store),
        metrics=metrics,
        clock=utc_now,
        max_trials=config.policy.max_trials,
    )
    timing = config.controller
    clockwork = Clockwork(controller.tick, registry, utc_now, timing.interval_seconds, timing.debounce_seconds)
    views = partial(_views_or_none, engine)
    metrics.registry.register(BankCollector(registry, views, config.policy.lambda_cost, lambda: clockwork.last_success))
    shapes = adaptable_shapes(config, base)
    limits = Limits(
        max_adapter_bytes=config.intake.max_adapter_bytes,
        max_rows=config.intake.max_calibration_rows,
        max_evaluation_rows=config.intake.max_evaluation_rows,
        max_rank=config.engine.max_lora_rank,
    )
    registrar = Registrar(
        registry,
        partial(take_in, store=store, base=shapes, limits=limits, roots=config.intake.roots),
        config.policy.protected_domains,
    )
    return Bank(config, registry, registrar, clockwork, controller.decide, engine.views, metrics.exposition)


def _views_or_none(engine: Engine) -> tuple[ReplicaView, ...]:
    """Return the views for a scrape, which must answer while the engine does not."""
    try:
        return engine.views()
    except EngineError:
        return ()
