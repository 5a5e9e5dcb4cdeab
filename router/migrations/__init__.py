"""Numbered, append-only migrations of the registry's database. A released one is never edited."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def upgrade(connection: Connection) -> None:
    """Bring a database to the newest schema inside the caller's transaction; at the newest already: no change.

    Raises
    ------
    alembic.util.CommandError
        The database holds a migration that this version does not know.
    """
    config = Config()
    config.set_main_option("script_location", "router:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
