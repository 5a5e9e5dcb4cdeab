from __future__ import annotations

import json
import math
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import text

from router import database
from router.database import writing
from router.records import (
    BASE,
    Action,
    Adapter,
    Decision,
    Measurement,
    MemberResult,
    Module,
    Part,
    Placement,
    Plan,
    PlanState,
    Recipe,
    Route,
    RoutingTable,
    Trial,
    Verdict,
)
from router.registry import (
    Registry,
    RegistryError,
    StaleEpoch,
    StaleRevision,
    UnknownAdapter,
    UnknownModule,
    UnknownPlan,
)
from tests.router.databases import empty_postgres_database

NOON = datetime(2026, 6, 1, 12, 0, 0, 123456, tzinfo=UTC)
MATH = Adapter(name="math", revision="a" * 64, source="/adapters/math", rank=8, num_bytes=5_000_000_000)
RECIPE = Recipe(operator="ties", members=("a" * 64, "b" * 64), weights=(0.5, 1 / 3), norm="none", rank=16)
ROUTE = Route("math", "a" * 64, "separate-a", Placement.SEPARATE, Action.ROUTE, "alone", measured_retention=0.1 + 0.2)
PLAN = Plan(
    id="plan-1",
    state=PlanState.PENDING,
    created_at=NOON,
    decisions=(Decision("math", "a" * 64, Placement.MERGED, Action.MERGE, "fits", RECIPE),),
    trials=(Trial(("code", "math"), (RECIPE,), "close"),),
)


@pytest.fixture(params=["sqlite-file", "sqlite-memory", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite-memory":
        return "sqlite://"
    if request.param == "sqlite-file":
        return f"sqlite:///{tmp_path / 'registry.db'}"
    return empty_postgres_database(request.getfixturevalue("cluster"))


@pytest.fixture
def registry(url: str) -> Iterator[Registry]:
    registry = Registry(url, clock=lambda: NOON)
    registry.migrate()
    yield registry
    registry.close()


def table(epoch: int) -> RoutingTable:
    return RoutingTable(epoch, (ROUTE,))


# Adapters


def test_an_adapter_comes_back_as_it_was_put_with_its_time(registry: Registry) -> None:
    full = replace(MATH, domain="maths", protected=True, calibration="c" * 64, evaluation="e" * 64)
    assert registry.put_adapter(full) == replace(full, registered_at=NOON)
    assert registry.adapter("math") == replace(full, registered_at=NOON)


def test_the_time_of_the_first_registration_is_kept(registry: Registry) -> None:
    early = NOON - timedelta(days=1)
    registry.put_adapter(replace(MATH, registered_at=early))
    again = registry.put_adapter(replace(MATH, revision="b" * 64, registered_at=NOON))
    assert (again.registered_at, again.revision) == (early, "b" * 64)
    assert registry.adapters() == (again,)


def test_adapters_are_sorted_by_name_byte_by_byte(registry: Registry) -> None:
    for name in ("b", "a.1", "B", "a-1"):
        registry.put_adapter(replace(MATH, name=name))
    assert [adapter.name for adapter in registry.adapters()] == ["B", "a-1", "a.1", "b"]


def test_an_expected_revision_that_is_stored_is_accepted(registry: Registry) -> None:
    registry.put_adapter(MATH, expected_revision="")
    registry.put_adapter(replace(MATH, revision="b" * 64), expected_revision=MATH.revision)
    assert registry.adapter("math").revision == "b" * 64


@pytest.mark.parametrize("expected", ["", "b" * 64])
def test_another_expected_revision_is_refused_and_changes_nothing(registry: Registry, expected: str) -> None:
    stored = registry.put_adapter(MATH)
    with pytest.raises(StaleRevision, match=r"is at revision a{64}"):
        registry.put_adapter(replace(MATH, revision="c" * 64), expected_revision=expected)
    assert registry.adapter("math") == stored


def test_expecting_a_revision_of_an_absent_adapter_is_refused(registry: Registry) -> None:
    with pytest.raises(StaleRevision, match="is at revision none"):
        registry.put_adapter(MATH, expected_revision="a" * 64)
    assert registry.adapters() == ()


def test_leaving_and_forgetting_an_adapter(registry: Registry) -> None:
    registry.put_adapter(MATH)
    assert registry.mark_leaving("math").leaving
    assert registry.adapter("math").leaving
    registry.forget_adapter("math")
    registry.forget_adapter("math")
    assert registry.adapters() == ()


@pytest.mark.parametrize("ask", [Registry.adapter, Registry.mark_leaving])
def test_an_unknown_adapter_is_an_error(registry: Registry, ask: Callable[[Registry, str], Adapter]) -> None:
    with pytest.raises(UnknownAdapter, match="'maths'"):
        ask(registry, "maths")


# Modules


def test_modules_come_back_and_are_found_by_recipe(registry: Registry) -> None:
    merged = Module("merged-1", RECIPE.members, 16, 123, RECIPE, kept_energy=0.987654321)
    separate = Module("separate-a", ("a" * 64,), 8, 99)
    for module in (separate, merged, merged):
        registry.put_module(module)
    assert registry.modules() == (merged, separate)
    assert registry.module("separate-a") == separate
    assert registry.module_of(RECIPE.key) == merged
    assert registry.module_of("0" * 64) is None
    registry.forget_module("merged-1")
    registry.forget_module("merged-1")
    assert registry.module_of(RECIPE.key) is None


def test_a_module_that_an_older_version_stored_is_found_by_its_recipe(url: str) -> None:
    """Written as it was before recipes had pruned parts, hyper-parameters and a seed."""
    key = "de11b5c90b8cb08aeeebe1e5a9f85ca2a9ac9063c61c7f144b06a801c6f280f3"
    recipe = json.dumps(
        {"operator": "ties", "members": list(RECIPE.members), "weights": [0.5, 1 / 3], "norm": "none", "rank": 16}
    )
    registry = Registry(url)
    registry.migrate()
    with writing(registry.database) as connection:
        connection.execute(
            text(
                "INSERT INTO modules (name, members, rank, num_bytes, recipe, recipe_key, kept_energy) "
                "VALUES ('merged-1', :members, 16, 123, :recipe, :key, 0.5)"
            ),
            {"members": json.dumps(RECIPE.members), "recipe": recipe, "key": key},
        )
    assert registry.module_of(RECIPE.key) == Module("merged-1", RECIPE.members, 16, 123, RECIPE, kept_energy=0.5)
    registry.close()


def test_an_unknown_module_is_an_error(registry: Registry) -> None:
    with pytest.raises(UnknownModule, match="'merged-9'"):
        registry.module("merged-9")


# Routing table


def test_before_the_first_commit_the_table_is_empty(registry: Registry) -> None:
    assert registry.table() == RoutingTable()
    assert registry.epoch() == 0


def test_a_committed_table_is_current(registry: Registry) -> None:
    registry.put_plan(PLAN)
    registry.commit(table(1))
    registry.commit(RoutingTable(2), plan_id="plan-1")
    assert registry.table() == RoutingTable(2)
    registry.commit(table(3))
    assert registry.table() == table(3)
    assert registry.epoch() == 3


@pytest.mark.parametrize("epoch", [-1, 0, 1, 3])
def test_a_table_of_another_epoch_than_the_next_is_refused(registry: Registry, epoch: int) -> None:
    registry.commit(RoutingTable(1))
    with pytest.raises(StaleEpoch, match=rf"epoch {epoch} cannot be committed: epoch 1 is current, so 2"):
        registry.commit(table(epoch))
    assert registry.table() == RoutingTable(1)


def test_a_commit_for_an_unknown_plan_is_refused(registry: Registry) -> None:
    with pytest.raises(UnknownPlan, match="'plan-9'"):
        registry.commit(table(1), plan_id="plan-9")
    assert registry.epoch() == 0


def test_of_concurrent_commits_in_threads_one_wins(registry: Registry) -> None:
    start = threading.Barrier(4)

    def commit(_number: int) -> str:
        start.wait()
        try:
            registry.commit(table(1))
        except StaleEpoch:
            return "stale"
        return "committed"

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(commit, range(4))) == ["committed", "stale", "stale", "stale"]
    assert registry.epoch() == 1


def test_the_primary_key_stops_a_writer_that_does_not_take_turns(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.commit(table(1))
    monkeypatch.setattr("router.registry._epoch", lambda connection: 0)
    with pytest.raises(StaleEpoch):
        registry.commit(RoutingTable(1))
    assert registry.table() == table(1)


def _commit_until(url: str, num_epochs: int, committed: multiprocessing.Queue[int]) -> None:
    registry = Registry(url)
    registry.migrate()
    while (epoch := registry.epoch() + 1) <= num_epochs:
        try:
            registry.commit(table(epoch))
        except StaleEpoch:
            continue
        committed.put(epoch)


def test_processes_start_together_and_share_the_epochs(url: str) -> None:
    if url == "sqlite://":
        pytest.skip("a database in memory belongs to one process")
    context = multiprocessing.get_context("fork")
    committed: multiprocessing.Queue[int] = context.Queue()
    processes = [context.Process(target=_commit_until, args=(url, 20, committed)) for _ in range(2)]
    for process in processes:
        process.start()
    epochs = sorted(committed.get(timeout=60) for _ in range(20))
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert epochs == list(range(1, 21))


def test_readers_and_writers_in_threads_do_not_disturb_each_other(registry: Registry) -> None:
    def write_and_read(number: int) -> int:
        registry.put_adapter(replace(MATH, name=f"adapter-{number}"))
        registry.record_event("put", str(number), "")
        return len(registry.adapters())

    with ThreadPoolExecutor(8) as threads:
        assert max(threads.map(write_and_read, range(40))) == 40
    assert len(registry.events()) == 40


# Transactions


def test_a_method_that_fails_half_way_leaves_nothing(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def put_and_fail(*args: object) -> None:
        database.put(*args)  # type: ignore[arg-type]
        raise RuntimeError("power cut")

    monkeypatch.setattr("router.registry.put", put_and_fail)
    with pytest.raises(RuntimeError, match="power cut"):
        registry.put_adapter(MATH)
    monkeypatch.undo()
    assert registry.adapters() == ()
    registry.put_adapter(MATH)


# Plans


def test_a_plan_comes_back_and_is_replaced_by_id(registry: Registry) -> None:
    registry.put_plan(PLAN)
    assert registry.plan("plan-1") == PLAN
    applied = replace(PLAN, state=PlanState.APPLIED, epoch=1, finished_at=NOON, message="done", trials=())
    registry.put_plan(applied)
    assert registry.plans() == (applied,)


def test_a_plan_that_has_an_epoch_can_still_be_replaced(registry: Registry) -> None:
    registry.put_plan(PLAN)
    registry.commit(table(1), plan_id="plan-1")
    registry.put_plan(replace(PLAN, state=PlanState.APPLIED))
    assert registry.plan("plan-1").state is PlanState.APPLIED


def test_plans_are_listed_newest_first_up_to_a_limit(registry: Registry) -> None:
    for day in (2, 1, 3):
        registry.put_plan(replace(PLAN, id=f"plan-{day}", created_at=NOON + timedelta(days=day)))
    assert [plan.id for plan in registry.plans()] == ["plan-3", "plan-2", "plan-1"]
    assert [plan.id for plan in registry.plans(2)] == ["plan-3", "plan-2"]


def test_an_unknown_plan_is_an_error(registry: Registry) -> None:
    with pytest.raises(UnknownPlan, match="'plan-9'"):
        registry.plan("plan-9")


# Measurements, verdicts, events


def test_a_measurement_comes_back_bit_for_bit_and_is_replaced(registry: Registry) -> None:
    gate = Measurement(BASE, "e" * 64, Part.GATE, (0.0, 1.0, 0.1 + 0.2), (-1.0 / 3, None, -math.inf))
    report = replace(gate, part=Part.REPORT, scores=(1.0,), log_likelihoods=(None,))
    for measurement in (replace(gate, scores=(0.5,)), gate, report):
        registry.put_measurement(measurement)
    assert registry.measurement(BASE, "e" * 64, Part.GATE) == gate
    assert registry.measurement(BASE, "e" * 64, Part.REPORT) == report
    assert registry.measurement("merged-1", "e" * 64, Part.GATE) is None


def test_a_verdict_comes_back_also_with_an_unbounded_interval(registry: Registry) -> None:
    member = MemberResult("a" * 64, 0.9, -math.inf, 0.8, None, 12, 11)
    failed = Verdict(RECIPE, "merged-1", False, "too few rows", (member,), safety_delta=-0.25, decided_at=NOON)
    registry.put_verdict(replace(failed, passed=True))
    registry.put_verdict(failed)
    assert registry.verdicts() == (failed,)


def test_events_are_listed_newest_first_with_their_data(registry: Registry) -> None:
    registry.record_event("registered", "math", "math was registered", revision="a" * 64, rank=8)
    registry.record_event("swapped", "table", "epoch 1")
    newest, oldest = registry.events()
    assert (newest.kind, newest.at, newest.data) == ("swapped", NOON, {})
    assert oldest.data == {"revision": "a" * 64, "rank": 8}
    assert registry.events(limit=1) == (newest,)


def test_times_are_read_in_utc_whatever_zone_they_were_given_in(registry: Registry) -> None:
    tokyo = NOON.astimezone(timezone(timedelta(hours=9)))
    registry.put_plan(replace(PLAN, created_at=tokyo))
    created_at = registry.plan("plan-1").created_at
    assert created_at == NOON
    assert created_at.utcoffset() == timedelta(0)


# Opening


@pytest.mark.parametrize("bad", ["nonsense", "mysql://host/db", "sqlite+nothing:///x"])
def test_a_url_that_is_none_is_refused(bad: str) -> None:
    with pytest.raises(RegistryError, match="sqlite:///"):
        Registry(bad)


def test_a_database_that_cannot_be_opened_is_named_without_its_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="the PostgreSQL driver psycopg is not installed")
    with pytest.raises(RegistryError, match="missing") as sqlite:
        Registry(f"sqlite:///{tmp_path}/missing/registry.db").migrate()
    assert "cannot be opened" in str(sqlite.value)
    with pytest.raises(RegistryError, match="cannot be opened") as postgres:
        Registry("postgresql://me:secret@127.0.0.1:1/bank").migrate()
    assert "secret" not in str(postgres.value)
