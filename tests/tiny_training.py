"""Trainings of a tiny model that take a fraction of a second, and callbacks that watch or end them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

from probe.factors import LoraUpdate
from probe.reference import quiet_peft

VOCABULARY = 40


class Snapshots(TrainerCallback):
    """Copies every LoRA tensor after every step."""

    def __init__(self) -> None:
        self.tensors: dict[int, dict[str, Tensor]] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.tensors[state.global_step] = {k: t.detach().clone() for k, t in lora_tensors(kwargs["model"]).items()}


class DiesAtStep(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise InterruptedError("killed")


class StopsAtStep(DiesAtStep):
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = control.should_training_stop or state.global_step == self.step


def lora_tensors(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p for name, p in model.named_parameters() if ".lora_" in name}


def tiny_base() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=32,
        )
    )


def tiny_lora(**options: Any) -> Any:
    defaults: dict[str, Any] = {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj", "v_proj"],
        "task_type": "CAUSAL_LM",
    }
    base = tiny_base()
    torch.manual_seed(1)
    with quiet_peft():
        return get_peft_model(base, LoraConfig(**(defaults | options)))


def rows_of_tokens(num_rows: int = 24) -> list[dict[str, list[int]]]:
    """Rows whose numbers of answer tokens differ, so that a mean over rows is none over tokens."""
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(0, VOCABULARY, (num_rows, 8), generator=generator).tolist()
    return [{"input_ids": row, "labels": [-100] * (1 + i % 6) + row[1 + i % 6 :]} for i, row in enumerate(ids)]


def arguments(folder: Path, **options: Any) -> TrainingArguments:
    defaults: dict[str, Any] = {
        "max_steps": 20,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-2,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
    }
    return TrainingArguments(output_dir=str(folder / "trainer"), **(defaults | options))


def trainer_of(model: Any, folder: Path, *callbacks: TrainerCallback, **options: Any) -> Trainer:
    return Trainer(
        model=model, args=arguments(folder, **options), train_dataset=rows_of_tokens(), callbacks=list(callbacks)
    )


def logged_losses(trainer: Trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def assert_equals_tensors(update: LoraUpdate, tensors: Mapping[str, Tensor], scale: float) -> None:
    assert len(tensors) == 2 * len(update.factors) > 0
    for module, factor in update.factors.items():
        prefix = f"base_model.model.{module}.lora_"
        assert torch.equal(factor.A, tensors[f"{prefix}A.default.weight"])
        assert torch.equal(factor.B, tensors[f"{prefix}B.default.weight"] * scale)


def assert_untouched(trainer: Trainer) -> None:
    assert "training_step" not in vars(trainer)
    for module in trainer.model.modules():
        assert not module._forward_hooks
