"""How one adapter is trained, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from peft import LoraConfig

from probe.embedded import EMBEDDED_NAME

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
ATTENTION_MLP = (*ATTENTION, "gate_proj", "up_proj", "down_proj")

MethodName = Literal["sft", "dpo", "osrm", "flylora", "random"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True)
class Training:
    """How an adapter is trained.

    Parameters
    ----------
    rank
        Rank of the update, at least 1.
    modules
        ``attention`` (q, k, v, o) or ``attention+mlp`` (those, gate, up and down).
    learning_rate
        Peak of AdamW; it rises over `warmup_share` of the steps, then falls to 0 as a cosine.
    alpha
        The update is scaled by ``alpha / rank``.
    num_rows, num_epochs, batch_rows
        Distinct training rows, passes over them, rows (pairs for ``dpo``) a step.
    method
        A row of `probe.bank.training.methods.METHODS`.
    precision
        Of the frozen base while training; the factors are float32 either way.
    beta
        Of the DPO loss, > 0: how far the adapter may go from the base; other methods ignore it.
    replay
        General questions that the base itself answers, trained on beside each row of the task, >= 0
        (`probe.bank.training.replay`); ``dpo`` ignores it.
    """

    rank: int
    modules: Literal["attention", "attention+mlp"]
    learning_rate: float
    alpha: int
    num_rows: int = 400
    num_epochs: int = 2
    batch_rows: int = 8
    warmup_share: float = 0.06
    method: MethodName = "sft"
    precision: Precision = "float32"
    beta: float = 0.1
    replay: float = 0.0

    @property
    def target_modules(self) -> tuple[str, ...]:
        """Names of the adapted projections."""
        return ATTENTION if self.modules == "attention" else ATTENTION_MLP

    def lora_config(self) -> LoraConfig:
        """Return the PEFT configuration: plain LoRA, without bias or dropout."""
        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            target_modules=list(self.target_modules),
            lora_dropout=0.0,
            bias="none",
            task_type="CAUSAL_LM",
        )

    def peft_fields(self) -> dict[str, Any]:
        """Return the fields of ``adapter_config.json``: those that every PEFT version reads.

        PEFT itself would write all its fields, and its module names in an order of the day.
        """
        return {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": EMBEDDED_NAME,
            "inference_mode": True,
            "r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": 0.0,
            "target_modules": list(self.target_modules),
            "bias": "none",
            "use_rslora": False,
            "use_dora": False,
        }
