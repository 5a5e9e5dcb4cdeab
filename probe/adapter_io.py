"""Adapter folders in PEFT's layout: read and refuse by name, write for vLLM and PEFT, hash.

The only module that touches adapter files. It needs neither peft nor the base model's weights, and it checks the
config and the tensors' headers before it loads the first tensor.
"""

# ruff: noqa: N806 - B, A and the like are what every LoRA paper calls these matrices

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from probe.adapter_config import AdapterConfig, AdapterError, check_base, parse_config
from probe.base_model import BaseShapes
from probe.factors import LoraFactor, LoraUpdate

__all__ = ["AdapterError", "read_adapter", "read_config", "revision_of", "write_adapter"]

CONFIG_FILE = "adapter_config.json"
TENSOR_FILE = "adapter_model.safetensors"
PICKLE_FILES = ("adapter_model.bin", "adapter_model.pt")
FLOAT_DTYPES = ("BF16", "F16", "F32")
TENSOR_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")

Shape = tuple[int, ...]


def read_adapter(folder: Path | str, base: BaseShapes | None = None, max_rank: int | None = None) -> LoraUpdate:
    """Read a LoRA adapter, with every scale absorbed into B.

    Parameters
    ----------
    folder
        Holds `adapter_config.json` and `adapter_model.safetensors` (bf16, f16 or f32).
    base
        If given, the adapter must name this base and fit its modules.
    max_rank
        If given, the largest rank that the engine serves.

    Returns
    -------
    LoraUpdate
        float32 factors, keyed by base module name, sorted.

    Raises
    ------
    AdapterError
        Says which file, option or tensor is refused, and why; its `field` names it.
    """
    folder = Path(folder)
    config = read_config(folder)
    if base is not None:
        check_base(config, base)
    with _open_tensors(folder) as tensors:
        modules = _modules_of(tensors)
        for module, shapes in modules.items():
            _check_shapes(module, shapes, config)
            _check_rank(module, shapes, max_rank)
            if base is not None:
                _check_module(module, shapes, base)
        return LoraUpdate({module: _load_factor(tensors, module, config.scale_of(module)) for module in modules})


def read_config(folder: Path | str) -> AdapterConfig:
    """Return what an adapter's config declares, without looking at its tensors.

    Raises
    ------
    AdapterError
        The config is missing, unreadable or refused.
    """
    return parse_config(_read_json(Path(folder)))


def write_adapter(folder: Path | str, update: LoraUpdate, base_name: str, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write an update as a PEFT folder that vLLM and PEFT both load; equal updates give equal bytes.

    vLLM ignores `rank_pattern` and `alpha_pattern`, so every module is padded with zeros to one rank r, with
    alpha = r (scale 1). `target_modules` lists full names, because a mere suffix would make PEFT add, and warn
    about, factors for layers that the update does not have.

    Parameters
    ----------
    dtype
        bfloat16 or float32; float16 is refused, since it can overflow.

    Raises
    ------
    AdapterError
        The update is empty, or the dtype is another one.
    """
    if dtype not in (torch.bfloat16, torch.float32) or not update.factors:
        raise AdapterError(
            f"Cannot write {len(update.factors)} modules as {dtype}: expected one or more, as bfloat16 or float32.",
            "tensors",
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).write_text(json.dumps(_plain_config(update, base_name), indent=2) + "\n", encoding="utf-8")
    save_file(_padded_tensors(update, dtype), folder / TENSOR_FILE, metadata={"format": "pt"})
    (folder / TENSOR_FILE).chmod(0o644)  # safetensors makes it its owner's alone, and an engine may run as another user


def revision_of(folder: Path | str) -> str:
    """Return the content hash (sha256, hex) of an adapter folder, one tensor in memory at a time.

    It covers the config's values and every tensor's name, type, shape and bytes; neither the JSON's formatting nor
    the order of keys or tensors matters, and other files in the folder do not count.

    Raises
    ------
    AdapterError
        The config or the tensor file is missing or unreadable.
    """
    folder = Path(folder)
    digest = hashlib.sha256(json.dumps(_read_json(folder), sort_keys=True).encode())
    with _open_tensors(folder) as tensors:
        for key in sorted(tensors.keys()):
            tensor = tensors.get_tensor(key).contiguous()
            header = json.dumps([key, str(tensor.dtype), list(tensor.shape)])
            digest.update(header.encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _read_json(folder: Path) -> object:
    path = folder / CONFIG_FILE
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise AdapterError(f"{path} is missing; save the adapter with PEFT's save_pretrained.", CONFIG_FILE) from error
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterError(f"{path}: expected readable JSON ({error}); save the adapter again.", CONFIG_FILE) from error


@contextmanager
def _open_tensors(folder: Path) -> Iterator[Any]:
    """Open the tensor file; a damaged one is an AdapterError, also when that shows only while reading."""
    path = folder / TENSOR_FILE
    if not path.is_file():
        pickles = [name for name in PICKLE_FILES if (folder / name).exists()]
        seen = f"found {pickles[0]}, a pickle, which can run code" if pickles else "it is missing"
        raise AdapterError(f"{path}: {seen}; save the adapter as safetensors.", "tensors")
    try:
        with safe_open(path, framework="pt") as tensors:
            yield tensors
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"{path}: not a readable safetensors file ({error}); save it again.", "tensors") from error


def _modules_of(tensors: Any) -> dict[str, dict[str, Shape]]:
    """Return module -> {"A": shape, "B": shape}, sorted by module, from the headers alone."""
    modules: dict[str, dict[str, Shape]] = {}
    for key in sorted(tensors.keys()):
        match = TENSOR_KEY.fullmatch(key)
        if match is None:
            raise AdapterError(
                f"Tensor {key!r} is unexpected: a plain LoRA holds only "
                "'base_model.model.<module>.lora_A.weight' and '...lora_B.weight'; train without other PEFT variants.",
                "tensors",
            )
        header = tensors.get_slice(key)
        if header.get_dtype() not in FLOAT_DTYPES:
            raise AdapterError(f"Tensor {key!r} is {header.get_dtype()}, expected one of {FLOAT_DTYPES}.", "tensors")
        modules.setdefault(match["module"], {})[match["side"]] = tuple(header.get_shape())
    if not modules:
        raise AdapterError("The adapter holds no tensor; was it saved before training began?", "tensors")
    return modules


def _check_shapes(module: str, shapes: Mapping[str, Shape], config: AdapterConfig) -> None:
    if len(shapes) == 1:
        raise AdapterError(f"Module {module!r} has only lora_{next(iter(shapes))}; its partner is missing.", "tensors")
    A, B, rank = shapes["A"], shapes["B"], config.rank_of(module)
    if len(A) != 2 or len(B) != 2 or A[0] != rank or B[1] != rank:
        raise AdapterError(
            f"Module {module!r}: lora_A is {A} and lora_B is {B}, but the config declares rank {rank}, so "
            f"({rank}, d_in) and (d_out, {rank}) were expected; config and tensors are of different adapters.",
            "tensors",
        )


def _check_rank(module: str, shapes: Mapping[str, Shape], max_rank: int | None) -> None:
    (rank, d_in), d_out = shapes["A"], shapes["B"][0]
    if rank > min(d_in, d_out):
        raise AdapterError(f"Module {module!r}: rank {rank} exceeds its size ({d_out}, {d_in}).", "tensors")
    if max_rank is not None and rank > max_rank:
        raise AdapterError(
            f"Module {module!r} has rank {rank}, but the engine serves at most {max_rank}; "
            "train with a lower rank or start the server with a higher maximum.",
            "adapter_config.r",
        )


def _check_module(module: str, shapes: Mapping[str, Shape], base: BaseShapes) -> None:
    expected = base.modules.get(module)
    if expected is None:
        raise AdapterError(f"Module {module!r} is not in base model {base.name!r}; train on that base.", "tensors")
    seen = (shapes["B"][0], shapes["A"][1])
    if seen != expected:
        raise AdapterError(
            f"Module {module!r}: the update is {seen}, but base model {base.name!r} has {expected} (d_out, d_in); "
            "it was trained on another base.",
            "tensors",
        )


def _load_factor(tensors: Any, module: str, scale: float) -> LoraFactor:
    prefix = f"base_model.model.{module}.lora_"
    A = tensors.get_tensor(f"{prefix}A.weight").float()
    B = tensors.get_tensor(f"{prefix}B.weight").float() * scale
    if not (A.isfinite().all() and B.isfinite().all()):
        raise AdapterError(f"Module {module!r} holds NaN or infinite values; training has diverged.", "tensors")
    return LoraFactor(B=B, A=A)


def _plain_config(update: LoraUpdate, base_name: str) -> dict[str, object]:
    return {
        "base_model_name_or_path": base_name,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": update.rank,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": update.rank,
        "target_modules": sorted(update.factors),
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }


def _padded_tensors(update: LoraUpdate, dtype: torch.dtype) -> dict[str, Tensor]:
    tensors = {}
    for module, factor in update.factors.items():
        num_missing = update.rank - factor.rank
        A = torch.nn.functional.pad(factor.A, (0, 0, 0, num_missing))
        B = torch.nn.functional.pad(factor.B, (0, num_missing))
        tensors[f"base_model.model.{module}.lora_A.weight"] = A.to(dtype).contiguous()
        tensors[f"base_model.model.{module}.lora_B.weight"] = B.to(dtype).contiguous()
    return tensors
