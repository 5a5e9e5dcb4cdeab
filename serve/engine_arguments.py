"""What vLLM is started with: engine arguments and environment variables, from our configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from serve.base_model import lora_targets
from serve.config import Config

CPU_KWARGS = {"enforce_eager": True, "dtype": "float32", "max_model_len": 2048}
CPU_ENV = {"VLLM_CPU_KVCACHE_SPACE": "1"}
FEW_CORES = 4
"""Up to here the engine computes on every core: vLLM would keep one for its scheduler, half of a small machine."""
ENV = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "INFO"}


def engine_kwargs(config: Config, base: Path) -> dict[str, Any]:
    """Return what vLLM's engine is started with; users' own keys go over ours."""
    engine = config.engine
    return {
        **(CPU_KWARGS if engine.accelerator == "cpu" else {}),
        "enable_lora": True,
        "max_loras": engine.max_loras,
        "max_cpu_loras": max(engine.max_cpu_loras, engine.max_loras),
        "max_lora_rank": engine.max_lora_rank,
        "lora_target_modules": lora_targets(config, base),
        "max_num_seqs": engine.max_ongoing_requests,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        **engine.engine_kwargs,
    }


def engine_env(config: Config) -> dict[str, str]:
    """Return the environment variables that vLLM reads; users' own go over ours."""
    return {**ENV, **(_cpu_env() if config.engine.accelerator == "cpu" else {}), **config.engine.env}


def _cpu_env() -> dict[str, str]:
    has_few = (os.cpu_count() or 1) <= FEW_CORES
    return CPU_ENV | ({"VLLM_CPU_NUM_OF_RESERVED_CPU": "0"} if has_few else {})
