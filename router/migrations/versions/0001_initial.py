"""The first schema: adapters, modules, plans, epochs, measurements, verdicts, events.

Types are spelt out here and not taken from `router.schema`: this file must stay as it is while the schema moves on.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create every table."""
    _create_bank()
    _create_plans()
    _create_findings()


def _create_bank() -> None:
    op.create_table(
        "adapters",
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("revision", sa.String(64), nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("num_bytes", sa.BigInteger, nullable=False),
        sa.Column("domain", sa.Text),
        sa.Column("protected", sa.Boolean, nullable=False),
        sa.Column("calibration", sa.String(64)),
        sa.Column("evaluation", sa.String(64)),
        sa.Column("leaving", sa.Boolean, nullable=False),
        sa.Column("registered_at", sa.DateTime),
    )
    op.create_table(
        "modules",
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("members", sa.JSON, nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("num_bytes", sa.BigInteger, nullable=False),
        sa.Column("recipe", sa.JSON),
        sa.Column("recipe_key", sa.String(64)),
        sa.Column("kept_energy", sa.Float),
    )
    op.create_index("ix_modules_recipe_key", "modules", ["recipe_key"])


def _create_plans() -> None:
    op.create_table(
        "plans",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("decisions", sa.JSON, nullable=False),
        sa.Column("trials", sa.JSON, nullable=False),
        sa.Column("epoch", sa.Integer),
        sa.Column("finished_at", sa.DateTime),
        sa.Column("message", sa.Text, nullable=False),
    )
    op.create_index("ix_plans_created_at", "plans", ["created_at"])
    op.create_table(
        "epochs",
        sa.Column("epoch", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("routes", sa.JSON, nullable=False),
        sa.Column("plan_id", sa.String(64), sa.ForeignKey("plans.id", name="fk_epochs_plan_id_plans")),
        sa.Column("committed_at", sa.DateTime, nullable=False),
    )


def _create_findings() -> None:
    op.create_table(
        "measurements",
        sa.Column("module", sa.String(255), primary_key=True),
        sa.Column("rows", sa.String(64), primary_key=True),
        sa.Column("part", sa.String(16), primary_key=True),
        sa.Column("scores", sa.JSON, nullable=False),
        sa.Column("log_likelihoods", sa.JSON, nullable=False),
    )
    op.create_table(
        "verdicts",
        sa.Column("recipe_key", sa.String(64), primary_key=True),
        sa.Column("recipe", sa.JSON, nullable=False),
        sa.Column("module", sa.String(255), nullable=False),
        sa.Column("passed", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("members", sa.JSON, nullable=False),
        sa.Column("safety_delta", sa.Float),
        sa.Column("decided_at", sa.DateTime),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
    )
