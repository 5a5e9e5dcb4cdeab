"""From adapter files to a merged adapter file, and the same function in PEFT."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import LlamaForCausalLM

from probe.adapter_io import read_adapter, write_adapter
from probe.operators import OPERATORS, Recipe
from probe.reference import quiet_peft
from tests import tiny
from tests.probe.members import assert_same, calibrations_for, dense, merged_by

IDS = torch.arange(12)[None]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One adapter of every way to scale and to vary the rank, on different modules."""
    folder = tmp_path_factory.mktemp("sources")
    attention, inner = ("q_proj", "v_proj"), ("q_proj", "down_proj")
    return [
        tiny.write_adapter(folder / "plain", 2, 0, attention, lora_alpha=4),
        tiny.write_adapter(folder / "rslora", 4, 1, inner, use_rslora=True),
        tiny.write_adapter(
            folder / "patterns", 3, 2, attention, rank_pattern={"v_proj": 5}, alpha_pattern={"q_proj": 1}
        ),
        tiny.write_adapter(folder / "bfloat16", 2, 3, inner, torch.bfloat16),
    ]


def peft_logits(base: Path, adapter: Path) -> Tensor:
    with quiet_peft():
        model = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), str(adapter)).eval()
    with torch.no_grad():
        return model(IDS).logits


def logits_of_sum(base: Path, adapters: list[Path]) -> Tensor:
    """Return the logits of the base with every adapter folded into its weights by PEFT, one after another."""
    model = LlamaForCausalLM.from_pretrained(base)
    for adapter in adapters:
        with quiet_peft():
            model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
        model.__dict__.pop("peft_config", None)
    with torch.no_grad():
        return model.eval()(IDS).logits


def test_concat_of_files_computes_what_peft_folds_one_by_one(base: Path, sources: list[Path], tmp_path: Path) -> None:
    merged = merged_by(Recipe("concat", norm="none"), [read_adapter(source) for source in sources])
    write_adapter(tmp_path, merged.update, tiny.BASE_NAME, torch.float32)
    torch.testing.assert_close(peft_logits(base, tmp_path), logits_of_sum(base, sources), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_merged_adapter_survives_its_file(operator: str, base: Path, sources: list[Path], tmp_path: Path) -> None:
    updates = [read_adapter(source) for source in sources]
    merged = merged_by(Recipe(operator, rank=16), updates, calibrations_for(updates)).update
    write_adapter(tmp_path, merged, tiny.BASE_NAME, torch.float32)
    assert_same(read_adapter(tmp_path), dense(merged), {name: f.shape for name, f in merged.factors.items()})
    before = LlamaForCausalLM.from_pretrained(base)(IDS).logits.detach()
    after = peft_logits(base, tmp_path)
    assert after.isfinite().all()
    assert not torch.allclose(after, before, atol=1e-3)
