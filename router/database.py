"""How the registry's database is opened, how transactions begin, and how records are read from and put into rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, TypeVar

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Engine,
    QueuePool,
    Select,
    Table,
    create_engine,
    event,
    func,
    insert,
    make_url,
    select,
    update,
)
from sqlalchemy.exc import ArgumentError

from router.records import Adapter, Event, Measurement, Module, Plan, Verdict
from router.vetoes import Veto

Record = TypeVar("Record", Adapter, Event, Measurement, Module, Plan, Verdict, Veto)

BUSY_TIMEOUT_SECONDS = 30
"""How long a SQLite connection waits for another process's write to end."""

WRITER_LOCK = 0x6D657267
"""Key of the PostgreSQL lock that writers take turns on ("merg" in ASCII: any number of our own will do)."""

_WRITES = "mergeprobe_writes"
"""Execution option of a connection whose transaction is going to write."""


def open_engine(url: str) -> Engine:
    """Return an engine for a SQLite or PostgreSQL URL; nothing is connected yet.

    Raises
    ------
    sqlalchemy.exc.ArgumentError
        The text is no URL of these databases.
    ModuleNotFoundError
        The PostgreSQL driver is not installed.
    """
    parsed = make_url(url)
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "sqlite":
        return _open_sqlite(parsed)
    if parsed.get_backend_name() == "postgresql":
        # A server may have dropped a pooled connection since its last use.
        return create_engine(parsed, pool_pre_ping=True)
    raise ArgumentError(f"{parsed.drivername!r} is not supported")


def _open_sqlite(url: URL) -> Engine:
    if url.database in (None, "", ":memory:"):
        # The database lives in its one connection, so threads take turns on it.
        engine = create_engine(
            url, poolclass=QueuePool, pool_size=1, max_overflow=0, connect_args={"check_same_thread": False}
        )
    else:
        engine = create_engine(url)
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _begin)
    return engine


def _set_pragmas(connection: Any, _record: object) -> None:
    # The driver would begin transactions late and on its own; `_begin` says when instead.
    connection.isolation_level = None
    for pragma in (f"busy_timeout={BUSY_TIMEOUT_SECONDS * 1000}", "journal_mode=WAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    """Take the write lock at once: a transaction that reads first and locks later fails when another wrote between."""
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITES) else "BEGIN")


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that only reads."""
    with engine.begin() as connection:
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that no other writer overlaps; it is rolled back when the block raises."""
    with engine.execution_options(**{_WRITES: True}).begin() as connection:
        # SQLite has taken its lock already, in `_begin`.
        if connection.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(WRITER_LOCK)))
        yield connection


def columns(record: Record) -> dict[str, Any]:
    """Return a record's fields by name, nested records as they are: the column types turn them into JSON."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


def read_first(connection: Connection, table: Table, record: type[Record], where: ColumnElement[bool]) -> Record | None:
    """Return the first record that fulfils a condition, or None."""
    row = connection.execute(_select(table, record).where(where).limit(1)).one_or_none()
    return None if row is None else record(*row)


def read_all(
    connection: Connection,
    table: Table,
    record: type[Record],
    order: Sequence[ColumnElement[Any]] = (),
    limit: int | None = None,
    where: Sequence[ColumnElement[bool]] = (),
) -> tuple[Record, ...]:
    """Return a table's records that fulfil every condition, in a given order, at most `limit` of them."""
    found = connection.execute(_select(table, record).where(*where).order_by(*order).limit(limit))
    return tuple(record(*row) for row in found)


def put(connection: Connection, table: Table, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Replace the row that has this key, or insert one; safe because writers take turns."""
    is_same = [table.c[name] == value for name, value in key.items()]
    if connection.execute(update(table).where(*is_same).values(**values)).rowcount == 0:
        connection.execute(insert(table).values(**{**key, **values}))


def _select(table: Table, record: type[Record]) -> Select[Any]:
    return select(*(table.c[field.name] for field in fields(record)))
