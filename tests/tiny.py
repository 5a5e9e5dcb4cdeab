"""Tiny models and adapters, made on the spot: no download, a fraction of a second each."""

# ruff: noqa: N806 - B, A and the like are what every LoRA paper calls these matrices

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from probe.factors import LoraFactor, LoraUpdate

BASE_NAME = "tiny"
NUM_LAYERS = 2
HIDDEN = 32
INNER = 64
BLOCK_SHAPES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN // 2, HIDDEN),
    "self_attn.v_proj": (HIDDEN // 2, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
}
SHAPES: Mapping[str, tuple[int, int]] = {
    f"model.layers.{layer}.{module}": shape for layer in range(NUM_LAYERS) for module, shape in BLOCK_SHAPES.items()
}
"""Module name -> (d_out, d_in) of the tiny base."""


def write_base(folder: Path, vocab_size: int = 64, seed: int = 0) -> Path:
    """Write a random 2-layer, 32-wide Llama as safetensors, without a tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_hidden_layers=NUM_LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def write_adapter(
    folder: Path,
    rank: int = 4,
    seed: int = 0,
    modules: Sequence[str] = ("q_proj", "v_proj"),
    dtype: torch.dtype = torch.float32,
    **config_overrides: object,
) -> Path:
    """Write a random PEFT adapter for the tiny base; `config_overrides` replace or add config fields.

    Ranks follow `rank_pattern` only where a key of it is a module's last name or its full name.
    """
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": BASE_NAME,
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": list(modules),
        "bias": "none",
    } | config_overrides
    pattern = config.get("rank_pattern")
    ranks: Mapping[str, int] = pattern if isinstance(pattern, dict) else {}
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for module, (d_out, d_in) in SHAPES.items():
        last_name = module.rsplit(".", 1)[-1]
        if last_name in modules:
            r = ranks.get(module, ranks.get(last_name, rank))
            tensors[f"base_model.model.{module}.lora_A.weight"] = torch.randn(r, d_in, generator=generator).to(dtype)
            tensors[f"base_model.model.{module}.lora_B.weight"] = torch.randn(d_out, r, generator=generator).to(dtype)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def random_update(
    seed: int, ranks: int | Mapping[str, int] = 4, shapes: Mapping[str, tuple[int, int]] = SHAPES
) -> LoraUpdate:
    """Return a Gaussian update over `shapes`; `ranks` is one rank, or module -> rank (absent: not adapted)."""
    generator = torch.Generator().manual_seed(seed)
    factors = {}
    for module, (d_out, d_in) in shapes.items():
        rank = ranks if isinstance(ranks, int) else ranks.get(module)
        if rank is not None:
            B, A = torch.randn(d_out, rank, generator=generator), torch.randn(rank, d_in, generator=generator)
            factors[module] = LoraFactor(B=B, A=A)
    return LoraUpdate(factors)
