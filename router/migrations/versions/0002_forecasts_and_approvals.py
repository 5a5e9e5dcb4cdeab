"""What verdicts were forecast to be, plans that roll others back, and what people keep out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns, which are empty for old rows, and the table of vetoes."""
    op.add_column("plans", sa.Column("rolls_back", sa.String(64)))
    op.add_column("verdicts", sa.Column("safe_probability", sa.Float))
    op.add_column("verdicts", sa.Column("predictor", sa.String(64)))
    op.create_table(
        "vetoes",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("members", sa.JSON, nullable=False),
        sa.Column("circumstances", sa.String(64), nullable=False),
        sa.Column("plan_id", sa.String(64), nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
    )
    op.create_index("ix_vetoes_plan_id", "vetoes", ["plan_id"])
