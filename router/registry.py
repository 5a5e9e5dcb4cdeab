"""The registry: what is registered, planned, measured and routed. It is the truth; replicas are caches of it.

Every public method of `Registry` is one transaction that leaves nothing behind unless it finishes. Threads and
processes may share a registry: writes take turns, so a method may read, decide and write without a gap.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime

from alembic.util import CommandError
from sqlalchemy import Connection, and_, delete, func, insert, select
from sqlalchemy.exc import ArgumentError, IntegrityError, OperationalError

from probe.records import MergeProbeError
from router import migrations
from router.database import columns, open_engine, put, read_all, read_first, reading, writing
from router.records import Adapter, Event, Measurement, Module, Part, Plan, PlanState, RoutingTable, Verdict
from router.schema import adapters, epochs, events, measurements, modules, plans, verdicts


class RegistryError(MergeProbeError):
    """The registry refuses a request, or its database cannot be used."""


class UnknownAdapter(RegistryError):
    """No adapter has this name."""


class UnknownModule(RegistryError):
    """No module has this name."""


class UnknownPlan(RegistryError):
    """No plan has this id."""


class StaleRevision(RegistryError):
    """Somebody else changed the adapter since the caller looked."""


class StaleEpoch(RegistryError):
    """Somebody else committed a routing table since the caller looked."""


def utc_now() -> datetime:
    """Return the time by the machine's clock."""
    return datetime.now(UTC)


class Registry:
    """Adapters, modules, plans, measurements, verdicts, events and the routing table, in a SQL database.

    Parameters
    ----------
    url
        `sqlite:///path/to/file.db` or `postgresql://user@host/database`.
    clock
        Gives the times of registrations, commits and events, with a zone.

    Raises
    ------
    RegistryError
        The text is no such URL, or the driver for it is not installed.
    """

    def __init__(self, url: str, clock: Callable[[], datetime] = utc_now) -> None:
        try:
            self.database = open_engine(url)
        except ArgumentError as error:
            raise RegistryError(f"Registry URL: {error}; use sqlite:///file.db or postgresql://...") from error
        except ModuleNotFoundError as error:
            raise RegistryError(f"Registry URL needs {error.name}: pip install 'mergeprobe[postgres]'.") from error
        self.now = clock

    def close(self) -> None:
        """Close all pooled connections; the registry can still be used and opens new ones."""
        self.database.dispose()

    def migrate(self) -> None:
        """Create the schema or bring it up to date; processes that start together take turns.

        Raises
        ------
        RegistryError
            The database cannot be opened, or a newer version of MergeProbe wrote it.
        """
        where = self.database.url.render_as_string(hide_password=True)
        try:
            with writing(self.database) as connection:
                migrations.upgrade(connection)
        except OperationalError as error:
            raise RegistryError(f"Registry {where} cannot be opened: {error.orig}; check URL and access.") from error
        except CommandError as error:
            raise RegistryError(f"Registry {where}: {error}; a newer MergeProbe wrote it, so upgrade.") from error

    # Adapters

    def put_adapter(self, adapter: Adapter, *, expected_revision: str | None = None) -> Adapter:
        """Insert or replace an adapter by name; the time of its first registration is kept.

        Parameters
        ----------
        expected_revision
            The revision that the caller believes is stored; "" means none; None skips the check.

        Returns
        -------
        Adapter
            As stored, with `registered_at`.

        Raises
        ------
        StaleRevision
            The stored revision is another one.
        """
        with writing(self.database) as connection:
            known = read_first(connection, adapters, Adapter, adapters.c.name == adapter.name)
            seen = known.revision if known else ""
            if expected_revision is not None and expected_revision != seen:
                asked = f"expected {expected_revision or 'none'}; look at it again and repeat."
                raise StaleRevision(f"Adapter {adapter.name!r} is at revision {seen or 'none'}, {asked}")
            first_time = known.registered_at if known else adapter.registered_at
            stored = replace(adapter, registered_at=first_time or self.now())
            put(connection, adapters, {"name": stored.name}, columns(stored))
            return stored

    def adapters(self) -> tuple[Adapter, ...]:
        """Return all adapters, sorted by name."""
        with reading(self.database) as connection:
            found = read_all(connection, adapters, Adapter)
        # Sorted here: databases sort text each by their own collation.
        return tuple(sorted(found, key=lambda adapter: adapter.name))

    def adapter(self, name: str) -> Adapter:
        """Return an adapter; raise UnknownAdapter where there is none."""
        with reading(self.database) as connection:
            return _adapter(connection, name)

    def mark_leaving(self, name: str) -> Adapter:
        """Mark an adapter as deleted but still draining, and return it; raise UnknownAdapter where there is none."""
        with writing(self.database) as connection:
            leaving = replace(_adapter(connection, name), leaving=True)
            put(connection, adapters, {"name": name}, columns(leaving))
            return leaving

    def forget_adapter(self, name: str) -> None:
        """Delete an adapter; absent already is success."""
        with writing(self.database) as connection:
            connection.execute(delete(adapters).where(adapters.c.name == name))

    # Modules

    def put_module(self, module: Module) -> None:
        """Insert or replace a module by name."""
        with writing(self.database) as connection:
            key = module.recipe.key if module.recipe else None
            put(connection, modules, {"name": module.name}, {**columns(module), "recipe_key": key})

    def module(self, name: str) -> Module:
        """Return a module; raise UnknownModule where there is none."""
        with reading(self.database) as connection:
            found = read_first(connection, modules, Module, modules.c.name == name)
        if found is None:
            raise UnknownModule(f"No module is named {name!r}; it was never built, or was removed since.")
        return found

    def modules(self) -> tuple[Module, ...]:
        """Return all modules, sorted by name."""
        with reading(self.database) as connection:
            found = read_all(connection, modules, Module)
        return tuple(sorted(found, key=lambda module: module.name))

    def module_of(self, recipe_key: str) -> Module | None:
        """Return the module built from a recipe, or None where it was not built."""
        with reading(self.database) as connection:
            return read_first(connection, modules, Module, modules.c.recipe_key == recipe_key)

    def forget_module(self, name: str) -> None:
        """Delete a module; absent already is success. Its measurements and verdict stay: they are labels."""
        with writing(self.database) as connection:
            connection.execute(delete(modules).where(modules.c.name == name))

    # Routing table

    def epoch(self) -> int:
        """Return the current epoch, 0 before the first commit; cheap enough to ask every second."""
        with reading(self.database) as connection:
            return _epoch(connection)

    def table(self) -> RoutingTable:
        """Return the current epoch's routing table, the empty one before the first commit."""
        newest = select(epochs.c.epoch, epochs.c.routes).order_by(epochs.c.epoch.desc()).limit(1)
        with reading(self.database) as connection:
            row = connection.execute(newest).one_or_none()
        return RoutingTable() if row is None else RoutingTable(row.epoch, row.routes)

    def commit(self, table: RoutingTable, plan_id: str | None = None) -> None:
        """Make a table the current one.

        Raises
        ------
        StaleEpoch
            The table's epoch is not the current one plus 1: another writer was faster.
        UnknownPlan
            `plan_id` names no plan.
        """
        row = {"epoch": table.epoch, "routes": table.routes, "plan_id": plan_id, "committed_at": self.now()}
        with writing(self.database) as connection:
            if plan_id is not None:
                _plan(connection, plan_id)
            current = _epoch(connection)
            if table.epoch != current + 1:
                raise _stale(table.epoch, current)
            try:
                connection.execute(insert(epochs).values(row))
            except IntegrityError as error:
                # A writer that does not take our turns, say an older version: the primary key has the last word.
                raise _stale(table.epoch, table.epoch) from error

    # Plans

    def put_plan(self, plan: Plan) -> None:
        """Insert or replace a plan by id."""
        with writing(self.database) as connection:
            put(connection, plans, {"id": plan.id}, columns(plan))

    def plan(self, plan_id: str) -> Plan:
        """Return a plan; raise UnknownPlan where there is none."""
        with reading(self.database) as connection:
            return _plan(connection, plan_id)

    def plans(self, limit: int = 100, states: Collection[PlanState] = tuple(PlanState)) -> tuple[Plan, ...]:
        """Return up to `limit` plans that stand in one of some states, newest first."""
        newest_first, is_asked = (plans.c.created_at.desc(), plans.c.id.desc()), (plans.c.state.in_(states),)
        with reading(self.database) as connection:
            return read_all(connection, plans, Plan, order=newest_first, limit=limit, where=is_asked)

    # Measurements, verdicts and events

    def put_measurement(self, measurement: Measurement) -> None:
        """Insert or replace the measurement of a module on one part of an evaluation set."""
        key = {"module": measurement.module, "rows": measurement.rows, "part": measurement.part}
        with writing(self.database) as connection:
            put(connection, measurements, key, columns(measurement))

    def measurement(self, module: str, rows: str, part: Part) -> Measurement | None:
        """Return what was measured, or None where nothing was."""
        column = measurements.c
        is_asked = and_(column.module == module, column.rows == rows, column.part == part)
        with reading(self.database) as connection:
            return read_first(connection, measurements, Measurement, is_asked)

    def put_verdict(self, verdict: Verdict) -> None:
        """Insert or replace the verdict on a recipe."""
        with writing(self.database) as connection:
            put(connection, verdicts, {"recipe_key": verdict.recipe.key}, columns(verdict))

    def verdicts(self) -> tuple[Verdict, ...]:
        """Return all verdicts, in the order of their recipe keys."""
        with reading(self.database) as connection:
            return read_all(connection, verdicts, Verdict, order=(verdicts.c.recipe_key,))

    def record_event(self, kind: str, subject: str, message: str, **data: object) -> None:
        """Add a line to the bank's history; `data` must fit into JSON."""
        row = {"at": self.now(), "kind": kind, "subject": subject, "message": message, "data": data}
        with writing(self.database) as connection:
            connection.execute(insert(events).values(row))

    def events(self, limit: int = 100) -> tuple[Event, ...]:
        """Return up to `limit` events, newest first."""
        with reading(self.database) as connection:
            return read_all(connection, events, Event, order=(events.c.id.desc(),), limit=limit)


def _adapter(connection: Connection, name: str) -> Adapter:
    found = read_first(connection, adapters, Adapter, adapters.c.name == name)
    if found is None:
        raise UnknownAdapter(f"No adapter is named {name!r}; register it first, or list the bank for its names.")
    return found


def _plan(connection: Connection, plan_id: str) -> Plan:
    found = read_first(connection, plans, Plan, plans.c.id == plan_id)
    if found is None:
        raise UnknownPlan(f"No plan has the id {plan_id!r}; list the plans for their ids.")
    return found


def _epoch(connection: Connection) -> int:
    return connection.execute(select(func.max(epochs.c.epoch))).scalar_one() or 0


def _stale(offered: int, current: int) -> StaleEpoch:
    return StaleEpoch(
        f"Routing table of epoch {offered} cannot be committed: epoch {current} is current, so {current + 1} was "
        "expected; read the table again and plan anew."
    )
