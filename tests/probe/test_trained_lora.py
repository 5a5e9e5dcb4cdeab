"""The adapter in training is found in every wrapping, and refused by name where it cannot be merged later."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from peft import PromptTuningConfig, get_peft_model
from torch.nn.parallel import DistributedDataParallel

from probe.adapter_io import AdapterError
from probe.reference import quiet_peft
from probe.telemetry.callback import MergeProbeCallback
from probe.telemetry.trained_lora import TrainedModelError, trained_lora
from tests.tiny_training import (
    lora_tensors,
    tiny_base,
    tiny_lora,
    trainer_of,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT's, as it wraps


@pytest.fixture
def process_group() -> Iterator[None]:
    """A group of this process alone."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_a_distributed_model_is_seen_through() -> None:
    model = tiny_lora()
    assert trained_lora(DistributedDataParallel(model)).model is model


def test_a_compiled_model_is_seen_through() -> None:
    model = tiny_lora()
    assert trained_lora(torch.compile(model, backend="eager")).model is model


def test_models_without_one_whole_lora_adapter_are_refused(tmp_path: Path) -> None:
    several = tiny_lora()
    several.add_adapter("other", copy.deepcopy(several.peft_config["default"]))
    several.base_model.set_adapter(["default", "other"])
    with quiet_peft():
        prompts = get_peft_model(tiny_base(), PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"))
    sharded = tiny_lora()
    next(iter(lora_tensors(sharded).values())).data = torch.empty(0)
    for model, error, message in (
        (tiny_base(), TrainedModelError, "LlamaForCausalLM, expected a PEFT model"),
        (several, TrainedModelError, r"\['default', 'other'\], expected one"),
        (sharded, TrainedModelError, "is sharded"),
        (tiny_lora(use_dora=True), AdapterError, "use_dora"),
        (tiny_lora(modules_to_save=["lm_head"]), AdapterError, "modules_to_save"),
        (tiny_lora(target_modules=["embed_tokens"]), AdapterError, "no factor of a linear module"),
        (prompts, AdapterError, "peft_type"),
    ):
        with pytest.raises(error, match=message):
            trained_lora(model)
    with pytest.raises(TrainedModelError):
        trainer_of(tiny_base(), tmp_path, MergeProbeCallback(tmp_path / "out")).train()
    assert not (tmp_path / "out").exists()


def test_tensors_that_cannot_be_written_are_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").mkdir()
    with pytest.raises(OSError, match="adapter_model"):
        trained_lora(tiny_lora()).save(tmp_path)
