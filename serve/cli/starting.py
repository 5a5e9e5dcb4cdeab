"""Starting a bank, and finding out why it would not start."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from serve.cli.running import AsJson
from serve.config import Config, read_config

ConfigFile = Annotated[Path | None, typer.Option("--config", "-c", help="YAML file; options go over it.")]
State = Annotated[Path | None, typer.Option(help="Folder for registry, store and embedded base.")]
console = Console()


def serve(
    config: ConfigFile = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; off loopback both keys are required.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    state: State = None,
    api_key: Annotated[str | None, typer.Option(envvar="MERGEPROBE_API_KEY", help="Key of /v1.")] = None,
    admin_key: Annotated[str | None, typer.Option(envvar="MERGEPROBE_ADMIN_KEY", help="Key of /bank.")] = None,
    root: Annotated[list[Path] | None, typer.Option(help="Folder that local sources may lie in; repeatable.")] = None,
    demo: Annotated[bool, typer.Option(help="Register the demo bank that is shipped.")] = False,
    address: Annotated[str | None, typer.Option(help="Join a running Ray cluster instead of starting one.")] = None,
) -> None:
    """Start the bank and keep it running until Ctrl-C or SIGTERM.

    Example: `mergeprobe serve --demo`, or `mergeprobe serve -c bank.yaml --root ./adapters`
    """
    from serve import demo_bank
    from serve.doctor import check_start

    roots = [*(root or ()), *([demo_bank.FOLDER] if demo else ())]
    settings = _settings(config, host, port, state, api_key, admin_key, roots)
    typer.echo(f"configuration: {settings.model_dump_json(exclude={'server': {'api_key', 'admin_key'}})}")
    check_start(settings)
    _prepare_imports(is_private=address is None)
    from serve import app  # imports Ray and vLLM, which a refused start and `--help` must not wait for

    stopping = threading.Event()
    _stop_by(stopping)
    with app.running(settings, address, progress=lambda text: console.print(f"- {text}")):
        _stop_by(stopping)  # again: Ray takes SIGTERM for itself when it starts, and would abort
        if demo:
            demo_bank.register(settings, progress=lambda text: console.print(f"- {text}"))
        console.print(f"MergeProbe ready at {settings.server.url}", style="bold green")
        stopping.wait()
        console.print("- stopping")


def _stop_by(stopping: threading.Event) -> None:
    """Let Ctrl-C and SIGTERM, which service managers send, set an event."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())


def _prepare_imports(is_private: bool) -> None:
    """Set what Ray and vLLM read from the environment while they are imported."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # of this process; the engine's own level is set with it
    if is_private:
        # Ray's switch for a machine that forms no cluster: its processes then listen on 127.0.0.1 only.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        # Ray runs its workers at niceness 15; here a worker is the engine, the one process that must not wait.
        os.environ.setdefault("RAY_worker_niceness", "0")


def doctor(
    config: ConfigFile = None,
    state: State = None,
    port: Annotated[int | None, typer.Option()] = None,
    as_json: AsJson = False,
) -> None:
    """Say what is missing or mismatched on this machine, and how to mend it.

    Example: `mergeprobe doctor --json`
    """
    from serve.doctor import examine

    findings = examine(_settings(config, None, port, state, None, None, []))
    if as_json:
        typer.echo(json.dumps([finding.as_dict() for finding in findings], indent=2))
    else:
        for finding in findings:
            mark = "[green]ok[/]  " if finding.ok else "[red]MEND[/]"
            mend = "" if finding.ok else f"\n     -> {finding.mend}"
            console.print(f"{mark} {finding.subject}: {finding.seen}{mend}")
    sys.exit(0 if all(finding.ok for finding in findings) else 1)


def _settings(
    config: Path | None,
    host: str | None,
    port: int | None,
    state: Path | None,
    api_key: str | None,
    admin_key: str | None,
    roots: list[Path],
) -> Config:
    settings = read_config(
        config, server__host=host, server__port=port, server__api_key=api_key, server__admin_key=admin_key, state=state
    )
    if not roots:
        return settings
    intake = settings.intake.model_copy(update={"roots": (*settings.intake.roots, *roots)})
    return settings.model_copy(update={"intake": intake})
