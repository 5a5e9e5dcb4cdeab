"""The controller's series: read off the registry at each scrape, absent while their value does not exist."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from router.engine import ReplicaView
from router.forecasts import GroupForecast
from router.labels import against
from router.records import (
    Action,
    Adapter,
    MemberResult,
    Module,
    Placement,
    Plan,
    PlanState,
    Recipe,
    Route,
    RoutingTable,
    Verdict,
)
from router.registry import Registry
from serve.metrics import BankCollector, ControllerMetrics

RECIPE = Recipe("ta", ("r-a", "r-b"), (0.5, 0.5), "none", 16)
A = Route("a", "r-a", "merged-1", Placement.MERGED, Action.MERGE, "measured", "ta", 0.97)
B = Route("b", "r-b", "merged-1", Placement.MERGED, Action.MERGE, "measured", "ta", 0.88)
C = Route("c", "r-c", "separate-c", Placement.SEPARATE, Action.ROUTE, "alone")


class Scrape:
    """A registry, and what its collector says now."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.views: tuple[ReplicaView, ...] = ()
        self.last_success: datetime | None = None
        self.metrics = ControllerMetrics()
        collector = BankCollector(registry, lambda: self.views, 0.5, lambda: self.last_success)
        self.metrics.registry.register(collector)

    def __call__(self) -> dict[str, dict[tuple[str, ...], float]]:
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for family in self.metrics.registry.collect():
            for sample in family.samples:
                found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
        return found

    def serve(self, *routes: Route) -> None:
        for route in routes:
            self.registry.put_adapter(Adapter(route.adapter, route.revision, "/source", 8, 100))
        self.registry.commit(RoutingTable(self.registry.epoch() + 1, routes))


@pytest.fixture
def scrape(tmp_path: Path) -> Iterator[Scrape]:
    registry = Registry(f"sqlite:///{tmp_path / 'registry.db'}")
    registry.migrate()
    yield Scrape(registry)
    registry.close()


def test_gauges_are_those_of_the_registry(scrape: Scrape) -> None:
    scrape.registry.put_module(Module("merged-1", ("r-a", "r-b"), 16, 3000, RECIPE, 0.9))
    scrape.registry.put_module(Module("separate-c", ("r-c",), 8, 1000))
    scrape.registry.put_module(Module("merged-old", ("r-a",), 8, 7777))
    scrape.serve(A, B, C)
    found = scrape()
    assert found["mergeprobe_registered_adapters"] == {(): 3}
    assert found["mergeprobe_active_adapters"] == {(): 2}
    assert found["mergeprobe_slots_saved"] == {(): 1}
    assert found["mergeprobe_plan_cost"] == {(): 1.0}
    assert found["mergeprobe_routing_epoch"] == {(): 1}
    assert found["mergeprobe_modules"] == {("merged",): 1, ("separate",): 1, ("protected",): 0}
    assert found["mergeprobe_module_bytes"] == {("merged",): 3000, ("separate",): 1000, ("protected",): 0}
    assert found["mergeprobe_measured_retention_ratio"] == {("a",): 0.97, ("b",): 0.88}
    assert found["mergeprobe_adapter_info"] == {
        ("a", "merged-1", "merged", "merge", "ta"): 1,
        ("b", "merged-1", "merged", "merge", "ta"): 1,
        ("c", "separate-c", "separate", "route", ""): 1,
    }


def test_a_value_that_is_gone_leaves_no_series_behind(scrape: Scrape) -> None:
    scrape.serve(A, B, C)
    assert "mergeprobe_measured_retention_ratio" in scrape()
    scrape.serve(C)
    found = scrape()
    assert "mergeprobe_measured_retention_ratio" not in found
    assert [labels[0] for labels in found["mergeprobe_adapter_info"]] == ["c"]


def test_nothing_predicted_appears_where_nothing_was_forecast(scrape: Scrape) -> None:
    scrape.serve(A, B, C)
    assert [name for name in scrape() if "predicted" in name or "lower_bound" in name] == []


def test_forecasts_of_merged_adapters_and_of_the_plan(scrape: Scrape) -> None:
    scrape.serve(replace(A, predicted_retention=0.9, lower_bound=0.8), replace(B, predicted_retention=0.7), C)
    found = scrape()
    assert found["mergeprobe_predicted_retention_ratio"] == {("a",): 0.9, ("b",): 0.7}
    assert found["mergeprobe_predicted_retention_lower_bound_ratio"] == {("a",): 0.8}, "b's bound is infinite"
    assert found["mergeprobe_plan_predicted_retention_ratio"] == {
        ("macro",): pytest.approx((0.9 + 0.7 + 1) / 3),
        ("worst",): 0.7,
    }


def test_a_plan_of_which_a_part_was_not_forecast_has_no_forecast(scrape: Scrape) -> None:
    scrape.serve(replace(A, predicted_retention=0.9, lower_bound=0.8), B, C)
    found = scrape()
    assert found["mergeprobe_predicted_retention_ratio"] == {("a",): 0.9}
    assert "mergeprobe_plan_predicted_retention_ratio" not in found


def test_plans_that_wait_are_counted(scrape: Scrape) -> None:
    assert scrape()["mergeprobe_plans_waiting"] == {(): 0}
    for number, state in enumerate((PlanState.WAITING, PlanState.WAITING, PlanState.APPROVED)):
        scrape.registry.put_plan(Plan(f"plan-{number}", state, datetime(2026, 1, 1, tzinfo=UTC)))
    assert scrape()["mergeprobe_plans_waiting"] == {(): 2}


def test_a_measurement_is_counted_against_its_forecast(scrape: Scrape) -> None:
    members = (MemberResult("r-a", 0.7, 0.6, None, None, 100, 0), MemberResult("r-b", 0.9, 0.8, None, None, 100, 0))
    verdict = Verdict(RECIPE, "merged-1", False, "too little", members)
    scrape.metrics.compare(verdict)
    assert scrape()["mergeprobe_prediction_error_ratio_count"] == {(): 0}, "nothing was predicted"
    forecast = GroupForecast({"r-a": 0.92, "r-b": 0.92}, {"r-a": 0.8, "r-b": 0.8}, 0.5)
    scrape.metrics.compare(against(verdict, forecast, "digest"))
    found = scrape()
    buckets = found["mergeprobe_prediction_error_ratio_bucket"]
    assert (buckets[("-0.2",)], buckets[("-0.05",)], buckets[("0.0",)]) == (1, 1, 2)
    assert found["mergeprobe_bound_violations_total"] == {(): 1}


def test_rollbacks_have_a_series_before_the_first_one(scrape: Scrape) -> None:
    assert scrape()["mergeprobe_rollbacks_total"] == {("breach",): 0, ("person",): 0}


def test_an_adapter_that_leaves_is_no_longer_one_that_clients_can_ask_for(scrape: Scrape) -> None:
    scrape.serve(A, B, C)
    scrape.registry.mark_leaving("c")
    assert scrape()["mergeprobe_registered_adapters"] == {(): 2}


def test_the_safety_delta_is_that_of_serving_modules_only(scrape: Scrape) -> None:
    assert "mergeprobe_safety_score_delta" not in scrape()
    scrape.registry.put_verdict(Verdict(RECIPE, "merged-1", True, "passed", (), -0.02))
    failed = replace(RECIPE, operator="ties")
    scrape.registry.put_verdict(Verdict(failed, "merged-2", False, "too unsafe", (), -0.5))
    assert "mergeprobe_safety_score_delta" not in scrape()
    scrape.serve(A, B)
    assert scrape()["mergeprobe_safety_score_delta"] == {("merged-1",): -0.02}


def test_residency_is_what_the_replicas_say(scrape: Scrape) -> None:
    assert "mergeprobe_module_resident" not in scrape()
    scrape.views = (ReplicaView("r0", 1, frozenset({"x", "y"})), ReplicaView("r1", 1, frozenset({"x"})))
    assert scrape()["mergeprobe_module_resident"] == {("x", "r0"): 1, ("y", "r0"): 1, ("x", "r1"): 1}


def test_the_time_of_the_last_plan_exists_once_there_was_one(scrape: Scrape) -> None:
    assert "mergeprobe_plan_timestamp_seconds" not in scrape()
    scrape.last_success = datetime(2026, 1, 1, tzinfo=UTC)
    assert scrape()["mergeprobe_plan_timestamp_seconds"] == {(): scrape.last_success.timestamp()}


def test_two_controllers_share_no_counter() -> None:
    first, second = ControllerMetrics(), ControllerMetrics()
    first.swaps.labels("committed").inc()
    assert second.registry.get_sample_value("mergeprobe_swap_total", {"result": "committed"}) in (None, 0)
    assert b'mergeprobe_swap_total{result="committed"} 1.0' in first.exposition()


def test_every_name_has_the_prefix_and_only_counters_end_in_total(scrape: Scrape) -> None:
    scrape.serve(A, B, C)
    families = list(scrape.metrics.registry.collect())
    assert all(family.name.startswith("mergeprobe_") for family in families)
    assert all(family.documentation for family in families)
    totals = {f.type for f in families for s in f.samples if s.name.endswith("_total")}
    assert totals == {"counter"}
