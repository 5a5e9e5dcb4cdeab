"""Every Prometheus series of the controller, at `/bank/metrics`.

Gauges are read off the registry when Prometheus asks, so a series exists only while its value stands there; what
happens over time (swaps, plans) is counted as it happens.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from router.engine import ReplicaView
from router.labels import comparisons
from router.records import Module, Placement, PlanState, RoutingTable, Verdict
from router.registry import Registry

ERRORS = (-1, -0.5, -0.3, -0.2, -0.1, -0.05, 0, 0.05, 0.1, 0.2, 0.3, 0.5, 1)
"""Ratios of retention: the edges of `prediction_error_ratio`."""
SECONDS = (0.0001, 0.001, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900)
ADAPTER = ["adapter"]


class ControllerMetrics:
    """Counters and histograms of the controller, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.swaps = Counter(
            "mergeprobe_swap", "Rollouts of a new routing epoch, by result.", ["result"], registry=self.registry
        )
        for result in ("committed", "failed"):
            self.swaps.labels(result)  # so that the first one of a kind is an increase, not a new series
        self.rollbacks = Counter(
            "mergeprobe_rollbacks", "Ways back to what was served before, by cause.", ["cause"], registry=self.registry
        )
        for cause in ("breach", "person"):
            self.rollbacks.labels(cause)
        self.violations = Counter(
            "mergeprobe_bound_violations",
            "Members that were measured to keep less than their predicted lower bound.",
            registry=self.registry,
        )
        self.prediction_errors = Histogram(
            "mergeprobe_prediction_error_ratio",
            "Retention as measured on the gate rows, less what was predicted; one observation a member.",
            buckets=ERRORS,
            registry=self.registry,
        )
        self.swap_seconds = self._histogram("mergeprobe_swap_duration_seconds", "From first load to last unload.")
        self.plan_seconds = self._histogram("mergeprobe_plan_duration_seconds", "One run of the planner.")
        self.load_seconds = self._histogram("mergeprobe_module_load_seconds", "Loading a module on every replica.")

    def compare(self, verdict: Verdict) -> None:
        """Count a measurement against the forecast that it was made for, if there was one."""
        for comparison in comparisons(verdict):
            self.prediction_errors.observe(comparison.error)
            self.violations.inc(comparison.is_violation)

    def _histogram(self, name: str, help_text: str) -> Histogram:
        return Histogram(name, help_text, buckets=SECONDS, registry=self.registry)

    def exposition(self) -> bytes:
        """Return the text that Prometheus scrapes."""
        return generate_latest(self.registry)


class BankCollector(Collector):
    """Gauges of the bank's present state.

    Parameters
    ----------
    registry
        The truth about adapters, modules and the routing table.
    views
        The replicas' views, asked at each scrape; an empty tuple while no replica answers.
    lambda_cost
        Cost of one active adapter.
    last_success
        When a tick last succeeded; None before the first.
    """

    def __init__(
        self,
        registry: Registry,
        views: Callable[[], tuple[ReplicaView, ...]],
        lambda_cost: float,
        last_success: Callable[[], datetime | None],
    ) -> None:
        self._registry, self._views, self._lambda_cost = registry, views, lambda_cost
        self._last_success = last_success

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield every gauge that has a value now."""
        table = self._registry.table()
        modules = {module.name: module for module in self._registry.modules() if module.name in table.modules}
        yield from self._counts(table)
        yield from _adapters(table)
        yield from _modules(table, modules)
        yield from _predictions(table)
        yield from self._safety(table)
        yield from self._plan()
        yield _gauge(
            "mergeprobe_module_resident",
            "1 for each module that a replica holds.",
            ((1, (name, view.replica)) for view in self._views() for name in sorted(view.resident)),
            ["module", "replica"],
        )

    def _counts(self, table: RoutingTable) -> Iterator[GaugeMetricFamily]:
        registered = sum(not adapter.leaving for adapter in self._registry.adapters())
        active = len(table.modules)
        yield _gauge("mergeprobe_registered_adapters", "Adapters that clients can ask for.", [(registered, ())])
        yield _gauge(
            "mergeprobe_active_adapters",
            "Distinct engine modules that the current plan needs; a merged group counts once.",
            [(active, ())],
        )
        yield _gauge("mergeprobe_slots_saved", "Served adapters minus active ones.", [(len(table.routes) - active, ())])
        yield _gauge("mergeprobe_plan_cost", "lambda_cost times active adapters.", [(self._lambda_cost * active, ())])
        yield _gauge("mergeprobe_routing_epoch", "Version of the routing table.", [(table.epoch, ())])
        waiting = len(self._registry.plans(states=(PlanState.WAITING,)))
        yield _gauge("mergeprobe_plans_waiting", "Plans that wait for a person.", [(waiting, ())])

    def _safety(self, table: RoutingTable) -> Iterator[GaugeMetricFamily]:
        deltas = {v.module: v.safety_delta for v in self._registry.verdicts() if v.safety_delta is not None}
        samples = [(delta, (name,)) for name, delta in sorted(deltas.items()) if name in table.modules]
        if samples:
            yield _gauge(
                "mergeprobe_safety_score_delta",
                "Safety score (0..1) of a serving merged module minus the base's, on the gate rows.",
                samples,
                ["module"],
            )

    def _plan(self) -> Iterator[GaugeMetricFamily]:
        done = self._last_success()
        if done is not None:
            yield _gauge(
                "mergeprobe_plan_timestamp_seconds", "When a plan was last carried out.", [(done.timestamp(), ())]
            )


def _adapters(table: RoutingTable) -> Iterator[GaugeMetricFamily]:
    yield _gauge(
        "mergeprobe_adapter_info",
        "1 for each adapter, with what serves it.",
        ((1, (r.adapter, r.module, r.placement.value, r.action.value, r.operator or "")) for r in table.routes),
        ["adapter", "module", "placement", "action", "operator"],
    )
    measured = [(r.measured_retention, (r.adapter,)) for r in table.routes if r.measured_retention is not None]
    if measured:
        yield _gauge(
            "mergeprobe_measured_retention_ratio",
            "(merged - base) / (single - base) on report rows; only merged adapters have one.",
            measured,
            ADAPTER,
        )


def _predictions(table: RoutingTable) -> Iterator[GaugeMetricFamily]:
    routes = table.routes
    predicted = [(r.predicted_retention, (r.adapter,)) for r in routes if r.predicted_retention is not None]
    bounds = [(r.lower_bound, (r.adapter,)) for r in routes if r.lower_bound is not None]
    if predicted:
        yield _gauge(
            "mergeprobe_predicted_retention_ratio", "Forecast of what a merged adapter keeps.", predicted, ADAPTER
        )
    if bounds:
        text = "Conformal lower bound of that forecast; a forecast without one has too few labels."
        yield _gauge("mergeprobe_predicted_retention_lower_bound_ratio", text, bounds, ADAPTER)
    num_merged = sum(route.placement is Placement.MERGED for route in routes)
    if predicted and len(predicted) == num_merged:
        kept = [value for value, _ in predicted] + [1.0] * (len(routes) - num_merged)
        text = "Forecast over all served adapters; a separate one keeps everything by construction."
        stats = [(sum(kept) / len(kept), ("macro",)), (min(kept), ("worst",))]
        yield _gauge("mergeprobe_plan_predicted_retention_ratio", text, stats, ["stat"])


def _modules(table: RoutingTable, modules: dict[str, Module]) -> Iterator[GaugeMetricFamily]:
    placed = {route.module: route.placement for route in table.routes}
    counts = Tally(placed.values())
    sizes = Tally[Placement]()
    for name, placement in placed.items():
        sizes[placement] += modules[name].num_bytes if name in modules else 0
    for name, text, tally in (
        ("mergeprobe_modules", "Active modules by placement.", counts),
        ("mergeprobe_module_bytes", "Size of the active modules' files by placement.", sizes),
    ):
        yield _gauge(name, text, ((tally[placement], (placement.value,)) for placement in Placement), ["placement"])


def _gauge(
    name: str, text: str, samples: Iterable[tuple[float, tuple[str, ...]]], labels: list[str] | None = None
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels or [])
    for value, names in samples:
        family.add_metric(names, value)
    return family
