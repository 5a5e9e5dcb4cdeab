"""What the measuring runs on, in words for the data card."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

PACKAGES = ("mergeprobe", "torch", "transformers", "peft", "numpy", "scipy")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that the numbers depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def hardware(device: str) -> str:
    """Return the processor, memory and accelerator that are used."""
    memory = round(psutil.virtual_memory().total / 2**30)
    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else "no GPU"
    return f"{psutil.cpu_count()} cores of {_cpu_name()}, {memory} GiB, {gpu}"


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
