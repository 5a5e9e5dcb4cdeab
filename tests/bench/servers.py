"""The two servers: `mergeprobe serve` with one demo adapter, and `vllm serve` with the same module and arguments."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import yaml

from serve.client import BankClient
from serve.config import Config, read_config
from serve.demo_bank import FOLDER as DEMO
from serve.demo_bank import demo_body
from tests.bench.load import MODEL
from tests.bench.usage import tree
from tests.bench.vllm_cli import COMMAND, serve_arguments
from tests.ports import free_port

START_SECONDS = 420.0
STOP_SECONDS = 60.0
NO_TICKS_SECONDS = 1e6
"""Timer of the controller: longer than any benchmark, so that none of its ticks falls into a block."""


class ServerError(RuntimeError):
    """A server did not start; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs."""

    name: str
    url: str
    pid: int
    command: tuple[str, ...]


def bank_config(folder: Path) -> Path:
    """Write the configuration of a bank whose state lies in `folder`, and return its file."""
    file = folder / "bank.yaml"
    tree_of_settings = {
        "server": {"port": free_port(), "metrics_port": free_port()},
        "controller": {"interval_seconds": NO_TICKS_SECONDS, "debounce_seconds": 0.1},
        "intake": {"roots": [str(DEMO)]},
        "state": str(folder / "state"),
    }
    file.write_text(yaml.safe_dump(tree_of_settings))
    return file


@contextmanager
def our_server(config_file: Path) -> Iterator[tuple[Server, Path]]:
    """Run our server with the one adapter inside the block; also gives the folder of the module that it serves."""
    config = read_config(config_file)
    command = (str(Path(sys.executable).parent / "mergeprobe"), "serve", "--config", str(config_file))
    log = config_file.parent / "mergeprobe.log"
    with _running(command, log, {"COLUMNS": "200"}) as process:
        # With the address: a traceback in the log may quote the line of code that prints the rest.
        _wait(process, log, lambda: f"MergeProbe ready at {config.server.url}" in log.read_text())
        bank = BankClient(config.server.url)
        body = demo_body(DEMO / MODEL)
        bank.register({key: value for key, value in body.items() if key != "evaluation"})
        module = bank.wait_until_served(MODEL)["module"]
        yield Server("mergeprobe", config.server.url, process.pid, command), config.store / "modules" / module


@contextmanager
def vllm_server(config: Config, module: Path, log: Path) -> Iterator[Server]:
    """Run `vllm serve` inside the block, with the engine arguments and environment that our server gives its engine."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    engine, env = _engine_settings(config)
    command = (
        *COMMAND,
        "serve",
        *engine,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--lora-modules",
        f"{MODEL}={module}",
    )
    with _running(command, log, env) as process:
        _wait(process, log, lambda: _is_healthy(url))
        yield Server("vllm serve", url, process.pid, command)


def _engine_settings(config: Config) -> tuple[list[str], dict[str, str]]:
    """Return the arguments and the environment that our server gives its engine, as `vllm serve` takes them."""
    logging.getLogger("alembic").setLevel(logging.WARNING)  # Ray turns every library's logging on
    from serve.app import llm_config  # imports Ray and vLLM, which `--help` must not wait for
    from serve.base_model import base_folder

    base = base_folder(config)
    engine = llm_config(config, base)
    arguments = [str(base), "--served-model-name", config.base.name, *serve_arguments(engine.engine_kwargs)]
    return arguments, dict(engine.runtime_env["env_vars"])


@contextmanager
def _running(command: Sequence[str], log: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("w") as output:
        # In a session of its own: Ctrl-C reaches only the benchmark, which then stops its servers in order.
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **env}, start_new_session=True
        )
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a server to end, and end by id whatever of its tree is then left."""
    started = tree(process.pid)
    process.terminate()  # not SIGINT, which a server started by a background job ignores
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    for left in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()
    psutil.wait_procs(started, timeout=10)


def _wait(process: subprocess.Popen[bytes], log: Path, is_ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            ended = f"ended with {process.returncode}" if process.returncode is not None else "is not ready"
            raise ServerError(f"{' '.join(process.args)} {ended}; its log {log} ends with:\n{log.read_text()[-3000:]}")
        time.sleep(0.5)


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).is_success
    except httpx.TransportError:
        return False
