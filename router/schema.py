"""Tables of the registry, and the types of their columns.

Flat fields of a record are columns of their own; nested records are JSON columns, read and written by pydantic, so
that a damaged cell is an error where it is read and not where it is used.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Enum,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.types import TypeDecorator
from typing_extensions import override

from router.records import Decision, MemberResult, Part, PlanState, Recipe, Route, Trial


class Nested(TypeDecorator[Any]):
    """JSON column that holds records of a given type, such as `tuple[Route, ...]`."""

    impl = JSON
    cache_ok = True

    def __init__(self, record_type: Any) -> None:
        super().__init__(none_as_null=True)
        self.record_type = record_type
        # JSON has no infinity, yet a bound can be infinite (too few rows): strings keep it, null would lose it.
        self._adapter = TypeAdapter[Any](record_type | None, config=ConfigDict(ser_json_inf_nan="strings"))

    @override
    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Turn records into plain JSON values."""
        return json.loads(self._adapter.dump_json(value))

    @override
    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Turn plain JSON values back into records, checking them."""
        return self._adapter.validate_python(value)


class UtcDateTime(TypeDecorator[datetime]):
    """Time with a zone, which SQLite would drop: stored as UTC, read as UTC."""

    impl = DateTime
    cache_ok = True

    @override
    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC without a zone; a time that has none could mean anything, so it is refused."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"time {value.isoformat()} has no zone; pass datetime.now(UTC) or the like")
        return value.astimezone(UTC).replace(tzinfo=None)

    @override
    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the stored time its zone back."""
        return None if value is None else value.replace(tzinfo=UTC)


def _word(enumeration: type[PlanState] | type[Part]) -> Enum:
    """Return a column type that stores an enumeration's words; not a native type, so a new word is no migration."""
    return Enum(enumeration, native_enum=False, length=16, values_callable=lambda words: [word.value for word in words])


metadata = MetaData()

adapters = Table(
    "adapters",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("revision", String(64), nullable=False),
    Column("source", Text, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("num_bytes", BigInteger, nullable=False),
    Column("domain", Text),
    Column("protected", Boolean, nullable=False),
    Column("calibration", String(64)),
    Column("evaluation", String(64)),
    Column("leaving", Boolean, nullable=False),
    Column("registered_at", UtcDateTime),
)

modules = Table(
    "modules",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("members", Nested(tuple[str, ...]), nullable=False),
    Column("rank", Integer, nullable=False),
    Column("num_bytes", BigInteger, nullable=False),
    Column("recipe", Nested(Recipe)),
    Column("recipe_key", String(64), index=True),
    Column("kept_energy", Float),
)

plans = Table(
    "plans",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("state", _word(PlanState), nullable=False),
    Column("created_at", UtcDateTime, nullable=False, index=True),
    Column("decisions", Nested(tuple[Decision, ...]), nullable=False),
    Column("trials", Nested(tuple[Trial, ...]), nullable=False),
    Column("epoch", Integer),
    Column("finished_at", UtcDateTime),
    Column("message", Text, nullable=False),
    Column("rolls_back", String(64)),
)

epochs = Table(
    "epochs",
    metadata,
    # The primary key is what keeps two writers from committing the same epoch.
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("routes", Nested(tuple[Route, ...]), nullable=False),
    Column("plan_id", String(64), ForeignKey("plans.id", name="fk_epochs_plan_id_plans")),
    Column("committed_at", UtcDateTime, nullable=False),
)

measurements = Table(
    "measurements",
    metadata,
    # No foreign key: the base model is measured too, and a measurement outlives its module.
    Column("module", String(255), primary_key=True),
    Column("rows", String(64), primary_key=True),
    Column("part", _word(Part), primary_key=True),
    Column("scores", Nested(tuple[float, ...]), nullable=False),
    Column("log_likelihoods", Nested(tuple[float | None, ...]), nullable=False),
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("recipe_key", String(64), primary_key=True),
    Column("recipe", Nested(Recipe), nullable=False),
    Column("module", String(255), nullable=False),
    Column("passed", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("members", Nested(tuple[MemberResult, ...]), nullable=False),
    Column("safety_delta", Float),
    Column("decided_at", UtcDateTime),
    Column("safe_probability", Float),
    Column("predictor", String(64)),
)

vetoes = Table(
    "vetoes",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("members", Nested(tuple[str, ...]), nullable=False),
    Column("circumstances", String(64), nullable=False),
    Column("plan_id", String(64), nullable=False, index=True),
    Column("by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("data", Nested(dict[str, Any]), nullable=False),
)
