from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text

from router.database import open_engine, reading, writing
from router.history import History
from router.migrations import upgrade
from router.records import PlanState, RoutingTable
from router.registry import Registry, RegistryError
from router.schema import metadata
from tests.router.databases import empty_postgres_database


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'registry.db'}"
    return empty_postgres_database(request.getfixturevalue("cluster"))


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = open_engine(url)
    yield engine
    engine.dispose()


def test_the_migrated_schema_is_the_declared_one(engine: Engine) -> None:
    with writing(engine) as connection:
        upgrade(connection)
    with reading(engine) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_migrating_twice_keeps_the_rows(engine: Engine) -> None:
    with writing(engine) as connection:
        upgrade(connection)
        connection.execute(text("INSERT INTO events (at, kind, subject, message, data) "
                                "VALUES ('2026-06-01 12:00:00', 'k', 's', 'm', '{}')"))  # fmt: skip
    with writing(engine) as connection:
        upgrade(connection)
        assert connection.execute(text("SELECT subject FROM events")).scalar_one() == "s"
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == ["0002"]


def upgrade_to(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", "router:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


MEMBERS = json.dumps(["a" * 64, "b" * 64])
RECIPE = json.dumps(
    {"operator": "ta", "members": json.loads(MEMBERS), "weights": [1.0, 1.0], "norm": "none", "rank": 16}
)
RESULT = json.dumps(
    [
        {
            "revision": "a" * 64,
            "gate": 0.9,
            "gate_lower_bound": "-Infinity",
            "report": None,
            "report_standard_error": None,
            "num_gate_rows": 12,
            "num_report_rows": 0,
            "normalised_accuracy": None,
        }
    ]
)
ROUTE = json.dumps(
    [
        {
            "adapter": "a",
            "revision": "a" * 64,
            "module": "separate-a",
            "placement": "separate",
            "action": "route",
            "reason": "alone",
            "operator": None,
            "measured_retention": None,
        }
    ]
)
ROWS_OF_0001 = (
    "INSERT INTO plans (id, state, created_at, decisions, trials, epoch, message) "
    "VALUES ('plan-1', 'applied', '2026-06-01 12:00:00', '[]', '[]', 1, 'done')",
    "INSERT INTO epochs (epoch, routes, plan_id, committed_at) VALUES (1, :route, 'plan-1', '2026-06-01 12:00:00')",
    "INSERT INTO verdicts (recipe_key, recipe, module, passed, reason, members) "
    "VALUES ('k', :recipe, 'merged-1', false, 'too little', :result)",
)


def test_rows_of_the_first_schema_are_read_after_the_migration(engine: Engine, url: str) -> None:
    with writing(engine) as connection:
        upgrade_to(connection, "0001")
        for statement in ROWS_OF_0001:
            given = {"route": ROUTE, "recipe": RECIPE, "result": RESULT}
            used = {name: value for name, value in given.items() if f":{name}" in statement}
            connection.execute(text(statement), used)
    registry = Registry(url)
    registry.migrate()
    (plan,) = registry.plans()
    assert (plan.id, plan.state, plan.rolls_back) == ("plan-1", PlanState.APPLIED, None)
    (verdict,) = registry.verdicts()
    assert (verdict.safe_probability, verdict.predictor) == (None, None)
    assert (verdict.members[0].gate, verdict.members[0].predicted_retention) == (0.9, None)
    (route,) = registry.table().routes
    assert (route.predicted_retention, route.lower_bound) == (None, None)
    assert History(registry).vetoes() == ()
    assert History(registry).brought("plan-1") == (RoutingTable(), registry.table())
    registry.close()


def test_a_migration_that_fails_leaves_no_table(engine: Engine) -> None:
    with pytest.raises(RuntimeError, match="power cut"), writing(engine) as connection:  # noqa: PT012
        upgrade(connection)
        raise RuntimeError("power cut")
    assert inspect(engine).get_table_names() == []


def test_a_database_of_a_newer_version_is_refused(engine: Engine, url: str) -> None:
    with writing(engine) as connection:
        upgrade(connection)
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    registry = Registry(url)
    with pytest.raises(RegistryError, match="9999"):
        registry.migrate()
    registry.close()


def test_migrations_are_numbered_in_one_line() -> None:
    scripts = list(ScriptDirectory("router/migrations").walk_revisions())
    assert [script.revision for script in reversed(scripts)] == [f"{n:04}" for n in range(1, len(scripts) + 1)]
    assert all(Path(script.path).name.startswith(script.revision) for script in scripts)


def test_sqlite_waits_writes_ahead_and_keeps_foreign_keys(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'registry.db'}")
    with reading(engine) as connection:
        pragmas = [connection.execute(text(f"PRAGMA {name}")).scalar_one() for name in ("journal_mode", "foreign_keys")]
        assert pragmas == ["wal", 1]
        assert connection.execute(text("PRAGMA busy_timeout")).scalar_one() == 30_000
    engine.dispose()
