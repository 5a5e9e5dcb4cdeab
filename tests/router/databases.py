"""Throw-away databases: a SQLite file, or a PostgreSQL cluster that lives as long as the test session."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import free_port


@contextmanager
def postgres_cluster() -> Iterator[str]:
    """Start a cluster on 127.0.0.1 and yield its URL without a database name; skip where PostgreSQL is absent."""
    bin_folder = _bin_folder()
    pytest.importorskip("psycopg", reason="the PostgreSQL driver psycopg is not installed")
    # Not pytest's folder: the server's user must be able to enter it.
    folder = Path(tempfile.mkdtemp(prefix="mergeprobe-pg-"))
    port = free_port()
    try:
        as_user = _as_server_user(folder)
        data = str(folder / "data")
        initdb = [str(bin_folder / "initdb"), "-D", data, "-U", "tester", "-A", "trust", "-N", "-E", "UTF8"]
        _run([*as_user, *initdb], folder)
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        control = [*as_user, str(bin_folder / "pg_ctl"), "-D", data]
        _run([*control, "-w", "-l", str(folder / "log"), "-o", options, "start"], folder)
        try:
            yield f"postgresql://tester@127.0.0.1:{port}"
        finally:
            _run([*control, "-m", "immediate", "stop"], folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def empty_postgres_database(cluster: str) -> str:
    """Empty the cluster's one database, end other connections to it, and return its URL."""
    import psycopg

    url = f"{cluster}/postgres"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return url


def _bin_folder() -> Path:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    on_path = shutil.which("initdb")
    if not folders and on_path is None:
        pytest.skip("PostgreSQL's server programs (initdb, pg_ctl) are not on this machine")
    return folders[-1] if folders else Path(str(on_path)).parent


def _as_server_user(folder: Path) -> list[str]:
    """Return a command prefix: PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return []
    if shutil.which("runuser") is None:
        pytest.skip("running as root, and runuser is absent, so PostgreSQL cannot be started")
    try:
        shutil.chown(folder, "postgres")
    except LookupError:
        pytest.skip("running as root, and there is no user 'postgres' to run PostgreSQL as")
    return ["runuser", "-u", "postgres", "--"]


def _run(command: list[str], folder: Path) -> None:
    # The output goes to a file: the started server inherits it and would keep a pipe open for ever.
    with (folder / "output").open("a") as output:
        subprocess.run(command, check=True, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=folder)
