"""The admin plane over HTTP, mounted as Ray mounts it: whole paths, and `/bank` as the root path."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from router.engine import EngineError
from serve.admin import admin_app
from tests.serve.bank import TinyBank, eventually

ROUTES = [
    ("GET", "/bank"),
    ("GET", "/bank/"),
    ("GET", "/bank/adapters"),
    ("POST", "/bank/adapters"),
    ("GET", "/bank/adapters/a"),
    ("DELETE", "/bank/adapters/a"),
    ("POST", "/bank/forecast"),
    ("POST", "/bank/replan"),
    ("GET", "/bank/plans"),
    ("GET", "/bank/plans/plan-1"),
    ("POST", "/bank/plans/plan-1/approve"),
    ("POST", "/bank/plans/plan-1/reject"),
    ("POST", "/bank/plans/plan-1/rollback"),
    ("GET", "/bank/events"),
    ("GET", "/bank/metrics"),
]


def series(client: TestClient) -> dict[str, dict[tuple[str, ...], float]]:
    """Return what Prometheus would read: sample name -> label values, by label name -> value."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(client.get("/bank/metrics").text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def state_of(client: TestClient, name: str) -> str:
    return str(client.get(f"/bank/adapters/{name}").json()["state"])


# Adapters


def test_an_empty_bank_is_described_with_and_without_a_slash(client: TestClient) -> None:
    expected = {
        "base": "tiny",
        "epoch": 0,
        "registered_adapters": 0,
        "active_adapters": 0,
        "slots_saved": 0,
        "plan_cost": 0,
        "warning": "",
        "adapters": [],
    }
    for path in ("/bank", "/bank/"):
        answer = client.get(path, follow_redirects=False)
        assert (answer.status_code, answer.json()) == (200, expected)


def test_a_registered_adapter_is_pending_and_then_serving(bank: TinyBank, client: TestClient) -> None:
    answer = client.post("/bank/adapters", json=bank.body("a", domain="math"))
    assert answer.status_code == 201
    adapter = answer.json()
    assert (adapter["name"], adapter["state"], adapter["domain"], adapter["rank"]) == ("a", "pending", "math", 4)
    assert (adapter["module"], adapter["placement"], adapter["served_revision"]) == (None, None, None)
    bank.tick()
    shown = client.get("/bank/adapters/a").json()
    assert (shown["state"], shown["placement"], shown["epoch"]) == ("serving", "separate", bank.registry.epoch())
    assert shown["module"] == f"separate-{adapter['revision'][:16]}"
    assert shown["served_revision"] == adapter["revision"]
    assert client.get("/bank/adapters").json() == {"adapters": [shown]}


def test_the_same_content_again_changes_nothing(bank: TinyBank, client: TestClient) -> None:
    first = client.post("/bank/adapters", json=bank.body("a"))
    before, events = bank.state(), bank.registry.events()
    again = client.post("/bank/adapters", json=bank.body("a"))
    assert (again.status_code, again.json()) == (200, first.json())
    assert (bank.state(), bank.registry.events()) == (before, events)


def test_new_content_under_the_same_name_is_a_new_revision(bank: TinyBank, client: TestClient) -> None:
    first = client.post("/bank/adapters", json=bank.body("a")).json()
    bank.tick()
    answer = client.post("/bank/adapters", json=bank.body("a", seed=1))
    assert answer.status_code == 201
    second = answer.json()
    assert second["revision"] != first["revision"] == second["served_revision"]
    assert second["state"] == "pending"
    assert second["registered_at"] == first["registered_at"]


def test_other_fields_alone_are_a_change_too(bank: TinyBank, client: TestClient) -> None:
    first = client.post("/bank/adapters", json=bank.body("a")).json()
    second = client.post("/bank/adapters", json=bank.body("a", protected=True))
    assert second.status_code == 201
    assert (second.json()["revision"], second.json()["protected"]) == (first["revision"], True)


def test_an_expected_revision_guards_against_overwriting(bank: TinyBank, client: TestClient) -> None:
    first = client.post("/bank/adapters", json=bank.body("a", expected_revision="")).json()["revision"]
    before = bank.state()
    for stale in ("", "0" * 64):
        answer = client.post("/bank/adapters", json=bank.body("a", seed=1, expected_revision=stale))
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "stale_revision")
        assert bank.state() == before
    answer = client.post("/bank/adapters", json=bank.body("a", seed=1, expected_revision=first))
    assert answer.status_code == 201


def test_a_deleted_adapter_leaves_and_is_forgotten(bank: TinyBank, client: TestClient) -> None:
    bank.register("a")
    bank.tick()
    answer = client.delete("/bank/adapters/a")
    assert (answer.status_code, answer.json()["state"]) == (202, "leaving")
    bank.tick()
    answer = client.get("/bank/adapters/a")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "adapter_not_found")


def test_a_leaving_adapter_that_is_registered_again_stays(bank: TinyBank, client: TestClient) -> None:
    bank.register("a")
    bank.tick()
    client.delete("/bank/adapters/a")
    assert client.post("/bank/adapters", json=bank.body("a")).status_code == 201
    bank.tick()
    assert state_of(client, "a") == "serving"


@pytest.mark.parametrize("fields", [{"protected": True}, {"domain": "safety"}], ids=["by flag", "by domain"])
def test_a_protected_adapter_is_deleted_only_by_force(
    bank: TinyBank, client: TestClient, fields: dict[str, object]
) -> None:
    bank.register("a", **fields)
    before = bank.state()
    answer = client.delete("/bank/adapters/a")
    assert answer.status_code == 409
    assert (answer.json()["error"]["param"], answer.json()["error"]["code"]) == ("force", "protected")
    assert bank.state() == before
    assert client.delete("/bank/adapters/a", params={"force": True}).status_code == 202


def test_an_unknown_adapter_cannot_be_deleted_or_shown(client: TestClient) -> None:
    for answer in (client.delete("/bank/adapters/ghost"), client.get("/bank/adapters/ghost")):
        assert answer.status_code == 404
        assert answer.json()["error"]["type"] == "not_found_error"
        assert "ghost" in answer.json()["error"]["message"]


# Plans and events


def test_replanning_is_accepted_and_ends_applied(ticking: TinyBank, client: TestClient) -> None:
    ticking.register("a")
    answer = client.post("/bank/replan", json={"apply": True})
    assert (answer.status_code, answer.json()["state"]) == (202, "pending")
    path = f"/bank/plans/{answer.json()['id']}"
    eventually(lambda: client.get(path).json()["state"] == "applied")
    done = client.get(path).json()
    assert [decision["adapter"] for decision in done["decisions"]] == ["a"]
    assert done["epoch"] == ticking.registry.epoch() > 0
    assert done["finished_at"] > done["created_at"] == answer.json()["created_at"]
    assert state_of(client, "a") == "serving"


@pytest.mark.parametrize("body", [None, {}], ids=["no body", "empty body"])
def test_replanning_applies_unless_told_otherwise(
    bank: TinyBank, client: TestClient, body: dict[str, object] | None
) -> None:
    answer = client.post("/bank/replan", json=body) if body is not None else client.post("/bank/replan")
    assert (answer.status_code, answer.json()["state"]) == (202, "pending")
    assert bank.registry.plan(answer.json()["id"]).state == "pending"


def test_a_preview_decides_and_changes_nothing(bank: TinyBank, client: TestClient) -> None:
    bank.register("a")
    bank.register("safety", protected=True)
    before = bank.state()
    answer = client.post("/bank/replan", json={"apply": False})
    assert (answer.status_code, answer.json()["state"]) == (202, "proposed")
    placements = {decision["adapter"]: decision["placement"] for decision in answer.json()["decisions"]}
    assert placements == {"a": "separate", "safety": "protected"}
    assert answer.json()["epoch"] is None
    assert bank.state() == before
    assert client.get(f"/bank/plans/{answer.json()['id']}").json() == answer.json()


def test_a_plan_that_is_ahead_shows_what_it_would_change_and_one_that_is_done_does_not(
    bank: TinyBank, client: TestClient
) -> None:
    bank.register("a")
    proposed = client.post("/bank/replan", json={"apply": False}).json()
    module = f"separate-{bank.registry.adapter('a').revision[:16]}"
    assert proposed["diff"]["moves"] == [
        {
            "adapter": "a",
            "before": None,
            "after": module,
            "together_with": [],
            "retention": {"value": 1.0, "source": "by construction"},
        }
    ]
    assert (proposed["diff"]["now"]["active"], proposed["diff"]["planned"]["active"]) == (0, 1)
    asked = bank.bank.clockwork.ask()
    bank.bank.clockwork._answer([asked.id])
    assert client.get(f"/bank/plans/{asked.id}").json()["diff"] is None
    again = client.post("/bank/replan", json={"apply": False}).json()
    assert again["diff"]["moves"] == []


def test_more_modules_than_the_engine_mixes_are_warned_of(tmp_path: Path) -> None:
    bank = TinyBank(tmp_path, overrides={"engine__max_loras": 2, "policy__max_trials": 0})
    for name in "ab":
        bank.register(name)
    bank.round()
    assert "the plan needs 2 modules, and the engine mixes 2" in bank.client().get("/bank").json()["warning"]
    bank.registry.close()


def test_plans_are_listed_newest_first(client: TestClient) -> None:
    ids = [client.post("/bank/replan", json={"apply": False}).json()["id"] for _ in range(3)]
    assert [plan["id"] for plan in client.get("/bank/plans").json()["plans"]] == ids[::-1]
    assert [plan["id"] for plan in client.get("/bank/plans?limit=1").json()["plans"]] == ids[2:]


def test_an_unknown_plan_is_404(client: TestClient) -> None:
    answer = client.get("/bank/plans/plan-of-nobody")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "plan_not_found")


def test_events_tell_what_happened_newest_first(bank: TinyBank, client: TestClient) -> None:
    bank.register("a", evaluation=None)
    bank.tick()
    bank.bank.registrar.remove("a", force=False)
    bank.tick()
    events = client.get("/bank/events").json()["events"]
    assert [event["kind"] for event in events] == ["removed", "epoch", "leaving", "epoch", "registered"]
    assert all(event["at"] and event["subject"] and event["message"] for event in events)
    assert client.get("/bank/events", params={"limit": 2}).json()["events"] == events[:2]


@pytest.mark.parametrize("path", ["/bank/plans", "/bank/events"])
@pytest.mark.parametrize("limit", ["0", "-1", "many", "99999999999999999999"])
def test_a_limit_that_makes_no_sense_is_refused(client: TestClient, path: str, limit: str) -> None:
    answer = client.get(path, params={"limit": limit})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "limit")


@pytest.mark.parametrize("body", [{"apply": 1}, {"now": True}, [], "yes"])
def test_a_malformed_replan_is_refused(bank: TinyBank, client: TestClient, body: object) -> None:
    answer = client.post("/bank/replan", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed")
    assert bank.registry.plans() == ()


# Health and metrics


def test_health_tells_epoch_and_replicas(bank: TinyBank, client: TestClient) -> None:
    bank.register("a")
    bank.tick()
    answer = client.get("/bank/health")
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "status": "ok",
            "epoch": bank.registry.epoch(),
            "replicas": 2,
            "planned": "by weights only: policy.predictor is none",
        },
    )


def test_health_is_503_while_no_replica_lives(bank: TinyBank, client: TestClient) -> None:
    bank.engine.replicas.clear()
    answer = client.get("/bank/health")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_not_ready")
    assert int(answer.headers["retry-after"]) > 0


def test_metrics_of_an_empty_bank_show_no_value_that_does_not_exist(client: TestClient) -> None:
    found = series(client)
    assert found["mergeprobe_registered_adapters"] == {(): 0}
    assert found["mergeprobe_routing_epoch"] == {(): 0}
    for absent in (
        "mergeprobe_adapter_info",
        "mergeprobe_measured_retention_ratio",
        "mergeprobe_safety_score_delta",
        "mergeprobe_plan_timestamp_seconds",
        "mergeprobe_module_resident",
    ):
        assert absent not in found
    assert not [name for name in found if "predicted" in name]


def test_metrics_of_a_merged_bank(bank: TinyBank, client: TestClient) -> None:
    for name in ("a", "b"):
        bank.register(name)
    bank.register("safety", domain="safety")
    bank.tick()
    found = series(client)
    merged = bank.registry.table().route("a").module
    assert found["mergeprobe_registered_adapters"] == {(): 3}
    assert found["mergeprobe_active_adapters"] == {(): 2}
    assert found["mergeprobe_slots_saved"] == {(): 1}
    assert found["mergeprobe_plan_cost"] == {(): 0.5 * 2}
    assert found["mergeprobe_modules"] == {("merged",): 1, ("separate",): 0, ("protected",): 1}
    assert found["mergeprobe_measured_retention_ratio"] == {("a",): 1.0, ("b",): 1.0}
    assert set(found["mergeprobe_safety_score_delta"]) == {(merged,)}
    route = bank.registry.table().route("a")
    assert ("merge", "a", merged, route.operator, "merged") in found["mergeprobe_adapter_info"]
    assert len(found["mergeprobe_module_resident"]) == 4, "two modules on each of two replicas"
    assert found["mergeprobe_swap_total"][("committed",)] == bank.registry.epoch()
    assert found["mergeprobe_module_load_seconds_count"][()] > 0
    assert found["mergeprobe_plan_duration_seconds_count"][()] > 0
    assert not [name for name in found if "predicted" in name]


def test_metrics_answer_while_the_engine_does_not(bank: TinyBank, client: TestClient) -> None:
    bank.engine.replicas.clear()
    assert series(client)["mergeprobe_registered_adapters"] == {(): 0}
    answer = client.get("/bank/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


# Keys and errors


def test_the_list_of_routes_here_is_the_whole_plane(bank: TinyBank) -> None:
    app = bank.client().app
    paths = {
        (method, f"/bank{route.path}")
        for route in app.routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }
    tested = {(method, path.replace("/adapters/a", "/adapters/{name}")) for method, path in ROUTES}
    tested = {(method, path.replace("plan-1", "{plan_id}")) for method, path in tested}
    assert paths == tested - {("GET", "/bank")} | {("GET", "/bank/health")}


@pytest.mark.parametrize(
    ("method", "path"), [*ROUTES, ("DELETE", "/bank/adapters/health"), ("GET", "/bank/plans/health")]
)
def test_every_route_but_health_wants_the_admin_key(tmp_path: Path, method: str, path: str) -> None:
    bank = TinyBank(tmp_path, overrides={"server__admin_key": "secret"})
    before, client = bank.state(), bank.client()
    for headers, code in (
        ({}, "missing_api_key"),
        ({"Authorization": "Basic c2VjcmV0"}, "missing_api_key"),
        ({"Authorization": "Bearer wrong"}, "invalid_api_key"),
    ):
        answer = client.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, code)
        assert answer.headers["www-authenticate"] == "Bearer"
    assert bank.state() == before
    assert client.request(method, path, headers={"Authorization": "Bearer secret"}).status_code != 401
    assert client.get("/bank/health").status_code == 200
    bank.registry.close()


def test_a_path_that_does_not_exist_is_404_in_the_envelope(client: TestClient) -> None:
    answer = client.get("/bank/forecasts")
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")
    answer = client.put("/bank/adapters")
    assert answer.status_code == 405
    assert answer.json()["error"]["message"]


def test_a_bug_is_a_500_in_the_envelope_and_tells_no_secret(bank: TinyBank, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object) -> None:
        raise RuntimeError("postgresql://user:password@host")

    monkeypatch.setattr("router.registry.Registry.table", broken)
    answer = bank.client(raise_server_exceptions=False).get("/bank")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert "password" not in answer.text


def test_an_engine_error_is_503_with_retry_after(bank: TinyBank) -> None:
    def fail() -> None:
        raise EngineError("planted")

    object.__setattr__(bank.bank, "views", fail)
    answer = TestClient(admin_app(bank.bank)).get("/health")
    assert (answer.status_code, answer.json()["error"]["message"]) == (503, "planted")
