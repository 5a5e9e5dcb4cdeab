"""The shipped Prometheus and Grafana files fit the series that a bank exports: tried on a real Prometheus."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

from serve.config import PolicyConfig, ServerConfig
from tests.deploy.prometheus import Prometheus, configuration, promtool, running_prometheus
from tests.deploy.queries import (
    DEPLOY,
    PROMETHEUS,
    RULES,
    Target,
    dashboard,
    dashboard_queries,
    dashboard_targets,
    panels,
    rule_queries,
    rules,
    series_names,
)
from tests.deploy.scraped_bank import ADMIN_KEY, scraped_bank

OWN_TO_PROMETHEUS = {"up"}
NUM_SCRAPES = 3
"""rate() needs two, and a counter that appears with its first increment one more."""
SCRAPE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Scraped:
    """A Prometheus that has scraped a small bank a few times, what Ray's side exported, and all names of series."""

    prometheus: Prometheus
    ray_text: str
    exported: frozenset[str]


def _sample_names(exposition: str) -> set[str]:
    return {sample.name for family in text_string_to_metric_families(exposition) for sample in family.samples}


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    folder = tmp_path_factory.mktemp("prometheus")
    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        scraped_bank(folder, monkeypatch) as (address, expositions),
        running_prometheus(folder, configuration(folder, address, ADMIN_KEY)) as prometheus,
    ):
        _wait_for_scrapes(prometheus)
        texts = {job: exposition.decode() for job, exposition in expositions.items()}
        yield Scraped(prometheus, texts["ray"], frozenset().union(*map(_sample_names, texts.values())))


def _wait_for_scrapes(prometheus: Prometheus) -> None:
    deadline = time.monotonic() + SCRAPE_SECONDS
    while time.monotonic() < deadline:
        counts = prometheus.query("sum_over_time(up[1m])")
        if len(counts) == 2 and all(float(count["value"][1]) >= NUM_SCRAPES for count in counts):
            return
        time.sleep(0.2)
    targets = [
        (t["scrapeUrl"], t["health"], t["lastError"]) for t in prometheus.get("targets")["data"]["activeTargets"]
    ]
    pytest.fail(f"Prometheus did not scrape both jobs {NUM_SCRAPES} times: {targets}")


@pytest.mark.parametrize("target", dashboard_targets(), ids=lambda target: target.panel.replace(" ", "-"))
def test_every_panel_shows_something_for_a_small_bank(scraped: Scraped, target: Target) -> None:
    result = scraped.prometheus.query(target.query)
    assert result, f"no series answers {target.query!r}"
    assert target.labels <= {label for series in result for label in series["metric"]}
    assert any(math.isfinite(float(series["value"][1])) for series in result), f"only NaN for {target.query!r}"


@pytest.mark.parametrize("query", rule_queries())
def test_prometheus_evaluates_every_rule(scraped: Scraped, query: str) -> None:
    scraped.prometheus.query(query)


def test_prometheus_has_loaded_the_shipped_rules_and_none_fails(scraped: Scraped) -> None:
    groups = scraped.prometheus.get("rules")["data"]["groups"]
    loaded = [rule for group in groups for rule in group["rules"]]
    assert len(loaded) == len(rules())
    assert not [rule["name"] for rule in loaded if rule.get("lastError")]


@pytest.mark.parametrize("query", [*dashboard_queries(), *rule_queries()])
def test_every_query_uses_only_declared_series(scraped: Scraped, query: str) -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    assert series_names(query) <= scraped.exported | recorded | OWN_TO_PROMETHEUS


def test_every_exported_series_of_the_bank_is_on_the_dashboard(scraped: Scraped) -> None:
    shown = set().union(*map(series_names, dashboard_queries()))
    own = {name for name in scraped.exported if name.removeprefix("ray_").startswith("mergeprobe_")}
    parts_of_histograms = {name for name in own if name.endswith(("_sum", "_count", "_created"))}
    assert own - parts_of_histograms == shown


def test_ray_exports_counters_with_the_prefix_and_total_once(scraped: Scraped) -> None:
    assert "\nray_mergeprobe_requests_total{" in scraped.ray_text
    assert "_total_total" not in scraped.ray_text


def test_series_names_are_read_off_a_query() -> None:
    query = 'sum by (le) (rate(a_bucket{x="b c"}[5m])) unless on (y) r:d:5m offset 1h or time() - d > bool 1'
    assert series_names(query) == {"a_bucket", "r:d:5m", "d"}


def test_promtool_accepts_configuration_and_rules() -> None:
    promtool("check", "config", PROMETHEUS)
    promtool("check", "rules", RULES)


def test_every_alert_fires_when_it_should_and_only_then() -> None:
    cases = Path(__file__).with_name("alerts.yml")
    promtool("test", "rules", cases)
    text = cases.read_text()
    untried = [rule["alert"] for rule in rules() if "alert" in rule and f'alertname="{rule["alert"]}"' not in text]
    assert not untried


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    readme = (DEPLOY / "README.md").read_text()
    for rule in rules():
        if "alert" in rule:
            assert set(rule["annotations"]) == {"summary", "description"}
            assert rule["labels"]["severity"] in ("warning", "critical")
            assert rule["alert"] in readme, f"the runbook is silent on {rule['alert']}"


def test_shipped_targets_are_the_defaults_of_bank_and_ray() -> None:
    jobs = {job["job_name"]: job for job in yaml.safe_load(PROMETHEUS.read_text())["scrape_configs"]}
    assert jobs["mergeprobe"]["static_configs"][0]["targets"] == [f"127.0.0.1:{ServerConfig().port}"]
    assert jobs["ray"]["static_configs"][0]["targets"] == [f"127.0.0.1:{ServerConfig().metrics_port}"]
    assert (
        f"# file_sd_configs:\n    #   - files: [/tmp/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}]" in PROMETHEUS.read_text()
    )


def test_the_retention_floor_is_the_policys_default() -> None:
    floor = PolicyConfig().target_retention
    assert f"mergeprobe_measured_retention_ratio < {floor}" in rule_queries()
    panel = next(panel for panel in panels() if panel["title"] == "Measured retention per adapter")
    assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1]["value"] == floor


def test_the_dashboard_can_be_provisioned_into_any_grafana() -> None:
    board, shown = dashboard(), [panel for panel in panels() if panel["type"] != "row"]
    assert board["uid"]
    assert board["id"] is None, "a number from somebody's Grafana would clash with another's"
    assert {panel["datasource"]["uid"] for panel in shown} == {"${datasource}"}
    assert {target["datasource"]["uid"] for panel in shown for target in panel["targets"]} == {"${datasource}"}
    assert [variable["name"] for variable in board["templating"]["list"]] == ["datasource"]
    assert len({panel["id"] for panel in panels()}) == len(list(panels()))
    assert all(panel["title"] and panel["description"] for panel in shown)
    for folder in ("datasources", "dashboards"):
        (file,) = (DEPLOY / "grafana" / "provisioning" / folder).iterdir()
        assert yaml.safe_load(file.read_text())["apiVersion"] == 1


def test_no_two_panels_overlap() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in panels():
        box = panel["gridPos"]
        covered = {(x, y) for x in range(box["x"], box["x"] + box["w"]) for y in range(box["y"], box["y"] + box["h"])}
        assert box["x"] + box["w"] <= 24
        assert not cells & covered, panel["title"]
        cells |= covered
