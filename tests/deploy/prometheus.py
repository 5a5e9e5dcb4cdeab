"""A real Prometheus for tests: the shipped configuration, scraping something else and more often."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.deploy.queries import PROMETHEUS
from tests.ports import free_port

START_SECONDS = 20.0
POLL_SECONDS = 0.1


def program(name: str) -> str:
    """Return the path of `prometheus` or `promtool`; fail where the package is not installed."""
    path = shutil.which(name)
    if path is None:
        pytest.fail(f"{name} is not installed; `make system-packages` installs it (Debian package: prometheus)")
    return path


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running server."""

    url: str

    def get(self, path: str, **params: str) -> dict[str, Any]:
        """Return the answer of an API path, an error's too."""
        return httpx.get(f"{self.url}/api/v1/{path}", params=params, timeout=10, trust_env=False).json()

    def query(self, query: str) -> list[dict[str, Any]]:
        """Return the result of an instant query."""
        answer = self.get("query", query=query)
        assert answer["status"] == "success", f"Prometheus refuses {query!r}: {answer.get('error')}"
        return answer["data"]["result"]


def configuration(folder: Path, address: str, admin_key: str, ray_address: str | None = None) -> dict[str, Any]:
    """Return the shipped configuration with the admin key, aimed elsewhere, with every interval of one second.

    `address` answers for the controller, and for Ray's agent too unless `ray_address` is given.
    """
    config = yaml.safe_load(_with_authorization(PROMETHEUS.read_text()))
    config["global"] = dict.fromkeys(config["global"], "1s")
    config["rule_files"] = [str(PROMETHEUS.parent / file) for file in config["rule_files"]]
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    (folder / "admin-key").write_text(admin_key)
    jobs["mergeprobe"]["authorization"]["credentials_file"] = str(folder / "admin-key")
    jobs["mergeprobe"]["static_configs"][0]["targets"] = [address]
    jobs["ray"]["static_configs"][0]["targets"] = [ray_address or address]
    return config


def _with_authorization(text: str) -> str:
    """Uncomment the block that a bank with an admin key needs, as the file tells its reader to do."""
    head, marker, tail = text.partition("    # authorization:\n")
    block, rest = tail.splitlines(keepends=True)[:2], tail.splitlines(keepends=True)[2:]
    return head + "".join(line.replace("# ", "", 1) for line in [marker, *block]) + "".join(rest)


@contextmanager
def running_prometheus(folder: Path, config: dict[str, Any]) -> Iterator[Prometheus]:
    """Start a server with its data in `folder`, yield it when it is ready, and stop it."""
    file, port = folder / "prometheus.yml", free_port()
    file.write_text(yaml.safe_dump(config))
    listen = f"--web.listen-address=127.0.0.1:{port}"
    command = [program("prometheus"), f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}", listen]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=folder)
    try:
        _wait_until_ready(f"http://127.0.0.1:{port}", process, folder / "log")
        yield Prometheus(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/-/ready", timeout=1, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(POLL_SECONDS)
    pytest.fail(f"Prometheus did not start: {log.read_text()[-2000:]}")


def promtool(*arguments: str | Path) -> None:
    """Run promtool; fail with what it says."""
    done = subprocess.run([program("promtool"), *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
