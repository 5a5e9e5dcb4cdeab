"""The base model that the bank is served over: its folder, and what adapters may change in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from probe.base_model import BaseShapes, read_base_shapes
from probe.embedded import export_embedded_base
from serve.config import Config

NOT_ADAPTABLE = ("lm_head", "embed_tokens", "wte", "embed_in", "embed_out")
"""Vocabulary matrices. vLLM applies LoRA to `lm_head` at sampled positions only, so with it on, any request for
prompt log-probabilities crashes the engine; left out of its LoRA targets, they work."""


def base_folder(config: Config) -> Path:
    """Return the folder of the base model, unpacking the embedded one if none is configured."""
    return config.base.path or export_embedded_base(config.state.resolve() / "base")


def adaptable_shapes(config: Config, folder: Path) -> BaseShapes:
    """Return the modules that an adapter may change, with their shapes."""
    shapes = read_base_shapes(folder, config.base.name, config.base.aliases)
    kept = {name: shape for name, shape in shapes.modules.items() if _suffix(name) not in NOT_ADAPTABLE}
    return replace(shapes, modules=kept)


def lora_targets(config: Config, folder: Path) -> list[str]:
    """Return the names that vLLM's `lora_target_modules` takes: `q_proj`, `down_proj`, ..."""
    return sorted({_suffix(name) for name in adaptable_shapes(config, folder).modules})


def _suffix(module: str) -> str:
    return module.rpartition(".")[2]
