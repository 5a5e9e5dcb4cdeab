"""Wiring: the controller, its clockwork and the admin plane around an engine. Knows nothing of Ray."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import cache, partial
from pathlib import Path

from probe.forecasting.advice import shipped_effects
from probe.operators import OUTPUT_RANKS
from probe.reference import Reference
from router.engine import Engine, EngineError, ReplicaView
from router.history import History
from router.intake import Limits, take_in
from router.planner import Settings
from router.records import Adapter
from router.registry import Registry
from router.store import Store
from serve.acts import Acts
from serve.admin import Bank
from serve.approval import Approval
from serve.base_model import adaptable_shapes
from serve.clockwork import Clockwork
from serve.config import Config, EngineConfig, PolicyConfig
from serve.controller import Controller
from serve.early.forecasts import EarlyForecasts
from serve.merging import Merge
from serve.metrics import BankCollector, ControllerMetrics
from serve.modules import ModuleBuilder
from serve.plan_view import PlanView
from serve.planning import planning
from serve.rechecks import Rechecks
from serve.registrar import Registrar
from serve.rollout import Rollout
from serve.signals.affinities import Affinities
from serve.signals.calibrated import CalibratedProfiles
from serve.signals.evidence import Evidence
from serve.signals.measuring import Place
from serve.signals.subjects import Subjects
from serve.signals.thread import Measure, SignalThread
from serve.traffic import Traffic
from serve.verification import Reference as ReferenceAnswers
from serve.verification import Scores, Verifier


def planner_settings(policy: PolicyConfig, engine: EngineConfig) -> Settings:
    """Translate the configuration for the planner."""
    return Settings(
        target_retention=policy.target_retention,
        lambda_cost=policy.lambda_cost,
        hysteresis=policy.hysteresis,
        protected_domains=policy.protected_domains,
        max_group_size=policy.max_group_size,
        max_trials=policy.max_trials,
        recipes=policy.recipes,
        max_exploration=policy.max_exploration,
        output_ranks=tuple(rank for rank in OUTPUT_RANKS if rank <= engine.max_lora_rank),
        slots=engine.max_loras,
    )


def offline_reference(base: Path) -> ReferenceAnswers:
    """Return a reference that loads the base when it is first asked, and keeps it."""
    load = cache(partial(Reference, base))
    return lambda rows, adapter: load().answers(rows, adapter)


def build_bank(
    config: Config, base: Path, engine: Engine, merge: Merge, measure_at: Callable[[Place], Measure]
) -> Bank:
    """Wire the controller and the admin plane around an engine, and ways to merge and measure; nothing starts yet."""
    registry, store = Registry(config.registry), Store(config.store)
    registry.migrate()
    metrics, history = ControllerMetrics(), History(registry)
    subjects = _subjects(config, base, store)
    measure = measure_at(Place(base, store.root / "adapters", store.root / "rows", config.signals_folder))
    signals = SignalThread(registry, subjects, measure, lambda: clockwork.poke())
    settings = planner_settings(config.policy, config.engine)
    plans = planning(config.policy.predictor, settings, subjects, lambda: signals.given_up, signals.poke)
    reference = offline_reference(base) if config.verify.reference else None
    verifier = Verifier(Scores(engine, registry, store), config.verify, config.policy.target_retention, reference)
    modules = ModuleBuilder(registry, store, config.base.name, merge, CalibratedProfiles(registry, subjects))
    timing, approval = config.controller, Approval(registry, history, config.policy)
    views = partial(_views_or_none, engine)
    traffic = Traffic(views, registry.now, config.traffic_file, config.policy)
    controller = Controller(
        registry=registry,
        planning=plans,
        rollout=Rollout(registry, engine, modules, verifier, metrics),
        modules=modules,
        verifier=verifier,
        rechecks=Rechecks(registry, engine, timedelta(seconds=timing.recheck_interval_seconds), registry.now),
        approval=approval,
        affinities=subjects.affinities,
        traffic=traffic,
        metrics=metrics,
        clock=registry.now,
        max_trials=config.policy.max_trials,
    )
    clockwork = Clockwork(controller.tick, registry, registry.now, timing.interval_seconds, timing.debounce_seconds)
    roots, taking_in = config.intake.roots, _taking_in(config, base)
    metrics.registry.register(BankCollector(registry, views, config.policy.lambda_cost, lambda: clockwork.last_success))
    return Bank(
        config=config,
        registry=registry,
        registrar=Registrar(registry, partial(taking_in, store=store, roots=roots), config.policy.protected_domains),
        clockwork=clockwork,
        signals=signals,
        wants_signals=plans.forecasting is not None or config.reads_signals,
        acts=Acts(registry, history, approval, controller.decide, clockwork.new_plan, clockwork.wake),
        show_plan=PlanView(registry, settings, traffic),
        preview=controller.decide,
        describe_planning=plans.describe,
        early_forecasts=EarlyForecasts(
            registry=registry,
            store=store,
            subjects=subjects,
            settings=settings,
            roots=roots,
            take_in=taking_in,
            compare=measure,
            planning=plans,
            effects=cache(shipped_effects),
            vetoed=approval.vetoed,
        ),
        views=engine.views,
        exposition=metrics.exposition,
    )


def _subjects(config: Config, base: Path, store: Store) -> Subjects:
    return Subjects(
        evidence=Evidence(config.signals_folder),
        affinities=Affinities(store),
        base=f"{config.base.name} {base.resolve()}",
        calibrates=config.signals.calibrate,
        protected_domains=config.policy.protected_domains,
    )


def _taking_in(config: Config, base: Path) -> Callable[..., Adapter]:
    """Return the intake of this base under these limits; a store and the roots are still to be named."""
    shapes = adaptable_shapes(config, base)
    limits = Limits(
        max_adapter_bytes=config.intake.max_adapter_bytes,
        max_rows=config.intake.max_calibration_rows,
        max_evaluation_rows=config.intake.max_evaluation_rows,
        max_rank=config.engine.max_lora_rank,
    )
    return partial(take_in, base=shapes, limits=limits)


def _views_or_none(engine: Engine) -> tuple[ReplicaView, ...]:
    """Return the views for those who go on while the engine does not answer."""
    try:
        return engine.views()
    except EngineError:
        return ()
