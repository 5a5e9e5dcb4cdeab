"""The shipped Prometheus configuration against the live bank: it scrapes, and every shipped query is answered."""

from __future__ import annotations

import time
from pathlib import Path

from serve.client import BankClient
from tests.deploy.prometheus import Prometheus, configuration, running_prometheus
from tests.deploy.queries import dashboard_queries, rule_queries
from tests.e2e.conftest import ADMIN_KEY, Server, demo
from tests.e2e.traffic import client, complete

ALWAYS_THERE = (
    "mergeprobe_registered_adapters",
    "mergeprobe_active_adapters",
    "mergeprobe_routing_epoch",
    "mergeprobe_plan_cost",
    "mergeprobe_plan_timestamp_seconds",
    'mergeprobe_adapter_info{adapter="math"}',
    "mergeprobe_module_resident",
    "mergeprobe_swap_total",
    'ray_mergeprobe_requests_total{model_name="math",status="200"}',
    'ray_mergeprobe_generated_tokens_total{model_name="math"}',
    'ray_mergeprobe_request_duration_seconds_count{model_name="math"}',
)


def test_the_live_bank_is_scraped_and_every_shipped_query_is_answered(
    server: Server, bank: BankClient, tmp_path: Path
) -> None:
    bank.register(demo("math", with_rows=False))
    bank.wait_until_served("math")
    for _ in range(3):
        complete(client(server), "math", "hello")
    addresses = [url.removeprefix("http://") for url in (server.url, server.metrics_url)]
    config = configuration(tmp_path, addresses[0], ADMIN_KEY, addresses[1])
    with running_prometheus(tmp_path, config) as prometheus:
        for query in ALWAYS_THERE:
            assert _eventually(prometheus, query), f"no sample for {query}"
        for query in dashboard_queries() + rule_queries():
            prometheus.query(query)  # fails where Prometheus refuses it
    assert "predicted_retention" not in server.bank.text("/bank/metrics"), "an adapter alone is not predicted"


def _eventually(prometheus: Prometheus, query: str) -> bool:
    """Wait for a series: Ray hands its metrics on every ten seconds or so."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if prometheus.query(query):
            return True
        time.sleep(0.5)
    return False
