"""The callback in the trainers of TRL, which work their losses out by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer

from probe.telemetry.bundle import Bundle, read_bundle
from probe.telemetry.callback import MergeProbeCallback
from tests.probe.test_reference import write_character_base

trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")

LORA = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
OPTIONS: dict[str, Any] = {
    "max_steps": 20,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-2,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "use_cpu": True,
    "bf16": False,
    "activation_checkpointing": False,
    "dataloader_pin_memory": False,
}

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT's, as it wraps


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_character_base(tmp_path_factory.mktemp("base"))


def check_training(trainer: Any, out: Path, num_rows: int) -> Bundle:
    trainer.train()
    bundle = read_bundle(out)
    assert {c.step: c.rho for c in bundle.checkpoints} == {1: 0.05, 2: 0.10}
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert bundle.record.losses.values == pytest.approx(logged[:2], rel=1e-6)
    assert bundle.metadata().num_rows == num_rows
    modules = set(bundle.update(bundle.checkpoints[-1]).factors)
    assert modules == {f"model.layers.{i}.{m}" for i in range(2) for m in ("self_attn.q_proj", "mlp.down_proj")}
    return bundle


def test_supervised_fine_tuning_is_recorded(base: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"<|im_start|>{i} + 1 = ", "completion": "x" * (1 + i % 3)} for i in range(8)]
    trainer = trl.SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base),
        args=trl.SFTConfig(output_dir=str(tmp_path / "trainer"), **OPTIONS),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=LORA,
        callbacks=[MergeProbeCallback(tmp_path / "out")],
    )
    bundle = check_training(trainer, tmp_path / "out", len(rows))
    assert bundle.record.base_name == str(base)


def test_preference_training_is_recorded_with_its_own_loss(base: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"<|im_start|>{i} + 1 = ", "chosen": "yes", "rejected": "never"} for i in range(8)]
    trainer = trl.DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(base),
        args=trl.DPOConfig(output_dir=str(tmp_path / "trainer"), **OPTIONS),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=LORA,
        callbacks=[MergeProbeCallback(tmp_path / "out")],
    )
    bundle = check_training(trainer, tmp_path / "out", len(rows))
    # Before anything is learned, neither answer is preferred: ln 2.
    assert bundle.checkpoints[0].loss == pytest.approx(0.6931, abs=1e-3)
