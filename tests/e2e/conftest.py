"""One live bank for all end-to-end tests: `mergeprobe serve` as a user starts it, with keys and a fast timer.

An engine takes a minute or two to start, so the tests share it; each leaves the bank as empty as it found it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from serve.client import BankClient
from serve.demo_bank import FOLDER as DEMO
from serve.demo_bank import demo_body
from tests.ports import free_port

API_KEY, ADMIN_KEY = "data-key", "admin-key"
START_SECONDS = 420.0
BASE = "SmolLM2-135M-Instruct"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/e2e/" in str(item.path):
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(1800))


@dataclass(frozen=True)
class Server:
    """The live bank: where it listens, where its state and its source root are."""

    url: str
    metrics_url: str
    state: Path
    root: Path
    log: Path
    bank: BankClient

    @property
    def base_folder(self) -> Path:
        return next((self.state / "base").iterdir())

    def module_folder(self, module: str) -> Path:
        return self.state / "store" / "modules" / module


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("bank")
    root = folder / "sources"
    root.mkdir()
    port, metrics_port = free_port(), free_port()
    config = {
        "server": {"port": port, "metrics_port": metrics_port, "api_key": API_KEY, "admin_key": ADMIN_KEY},
        "controller": {"interval_seconds": 30, "debounce_seconds": 0.5},
        "policy": {"max_trials": 1},
        "verify": {"max_concurrent_rows": 12},
        "intake": {"roots": [str(DEMO), str(root)], "max_adapter_bytes": 64 << 20},
        "state": str(folder / "state"),
    }
    (folder / "bank.yaml").write_text(yaml.safe_dump(config))
    log = folder / "serve.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [Path(sys.executable).parent / "mergeprobe", "serve", "--config", folder / "bank.yaml"],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**clean_environment(), "COLUMNS": "200"},
        )
    try:
        _wait_until_ready(process, log)
        url = f"http://127.0.0.1:{port}"
        with BankClient(url, ADMIN_KEY) as bank:
            yield Server(url, f"http://127.0.0.1:{metrics_port}", folder / "state", root, log, bank)
        close_clients()
        assert _stopped(process) == 0, f"SIGTERM did not end it in order:\n{log.read_text()[-5000:]}"
    finally:
        _stopped(process)


def _stopped(process: subprocess.Popen[bytes]) -> int:
    """Stop a server as service managers do, and return its exit code."""
    process.terminate()
    try:
        return process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def close_clients() -> None:
    from tests.e2e import traffic  # which needs this module's Server

    traffic.close_clients()


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while "MergeProbe ready at http" not in log.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the server did not start:\n{log.read_text()[-5000:]}")
        time.sleep(0.5)


def clean_environment() -> dict[str, str]:
    """Return the environment without what Ray has set in it for this process when a test imported it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


@pytest.fixture
def bank(server: Server) -> Iterator[BankClient]:
    """The admin plane; whatever a test registers is removed after it."""
    yield server.bank
    names = [adapter["name"] for adapter in server.bank.get("/bank/adapters")["adapters"]]
    for name in names:
        server.bank.delete(f"/bank/adapters/{name}", force=True)
    for name in names:
        server.bank.wait_until_gone(name)


def demo(name: str, content: str | None = None, with_rows: bool = True) -> dict[str, object]:
    """Return the body that registers the demo adapter `content` under `name`."""
    body = {**demo_body(DEMO / (content or name)), "name": name}
    if not with_rows:
        body = {key: value for key, value in body.items() if key not in ("calibration", "evaluation")}
    return body
