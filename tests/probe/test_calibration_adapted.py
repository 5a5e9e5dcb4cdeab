"""An update in memory acts as PEFT's adapter does, and shifts are those of the hidden states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from probe.adapter_io import read_adapter, write_adapter
from probe.calibration import CalibrationError, adapted, shifts
from probe.factors import LoraUpdate, scaled
from probe.reference import quiet_peft
from probe.rows import Row
from tests import tiny
from tests.probe.calibration_oracles import num_hooks, stream
from tests.probe.test_reference import write_character_base

IDS = torch.tensor([[3, 1, 4, 1, 5, 9]])
ROWS = tuple(
    Row(f"<|im_start|>{letter * size}<|im_end|>", "no", "forced") for letter, size in (("a", 3), ("b", 9), ("c", 5))
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def model(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(IDS).logits
    return found


def test_an_update_in_memory_acts_as_the_adapter_that_peft_loads(model: Any, folder: Path, tmp_path: Path) -> None:
    update = scaled(tiny.random_update(1), 0.05)
    write_adapter(tmp_path, update, tiny.BASE_NAME, torch.float32)
    with adapted(model, read_adapter(tmp_path)):
        seen = logits(model)
    other = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with quiet_peft():
        wanted = logits(PeftModel.from_pretrained(other, str(tmp_path)).eval())
    torch.testing.assert_close(seen, wanted, rtol=1e-5, atol=1e-5)
    assert float((seen - logits(model)).abs().max()) > 0.01


def test_the_update_takes_the_models_dtype(model: Any) -> None:
    wanted = logits(model)
    with adapted(model.bfloat16(), scaled(tiny.random_update(1), 1e-4)):
        seen = logits(model)
    assert seen.dtype == torch.bfloat16
    torch.testing.assert_close(seen.float(), wanted, rtol=0.1, atol=0.05)


def test_the_base_is_back_after_the_block_and_after_an_exception(model: Any) -> None:
    before = logits(model)
    with pytest.raises(ZeroDivisionError), adapted(model, tiny.random_update(1)):
        1 / (num_hooks(model) - len(tiny.SHAPES))
    assert num_hooks(model) == 0
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("stranger", ["model.layers.7.mlp.up_proj", "model.norm", "model.embed_tokens"])
def test_a_module_that_the_model_lacks_is_named_before_any_hook_is_set(model: Any, stranger: str) -> None:
    update = tiny.random_update(1, shapes={**tiny.SHAPES, stranger: (4, 8)})
    with pytest.raises(CalibrationError, match=stranger), adapted(model, update):
        pass
    assert num_hooks(model) == 0


def test_an_update_of_another_shape_is_refused(model: Any) -> None:
    name = next(iter(tiny.SHAPES))
    update = tiny.random_update(1, shapes={name: (7, 8)})
    with pytest.raises(CalibrationError, match=r"\(7, 8\), but the module is \(32, 32\)"), adapted(model, update):
        pass


@pytest.fixture(scope="module")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A tiny model with a tokenizer."""
    folder = write_character_base(tmp_path_factory.mktemp("speaking"))
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def small_update(seed: int, layer: int = 0) -> LoraUpdate:
    """Return an update of one layer's attention."""
    shapes = {f"model.layers.{layer}.self_attn.q_proj": (32, 32), f"model.layers.{layer}.self_attn.o_proj": (32, 32)}
    return scaled(tiny.random_update(seed, 3, shapes), 0.05)


def distance(first: list[dict[int, Tensor]], second: list[dict[int, Tensor]], number: int) -> float:
    """Norm over all tokens but the first of each row."""
    return float(torch.cat([(a[number] - b[number])[1:] for a, b in zip(first, second, strict=True)]).norm())


def test_a_shift_is_the_ratio_of_hidden_state_norms(speaking: tuple[Any, Any]) -> None:
    own, other = small_update(1), small_update(2)
    seen = shifts(*speaking, ROWS, own, {"other": other, "own": own})
    base = [stream(*speaking, row) for row in ROWS]
    with adapted(speaking[0], own):
        under_own = [stream(*speaking, row) for row in ROWS]
    with adapted(speaking[0], other):
        under_other = [stream(*speaking, row) for row in ROWS]
    for number in range(2):
        length = float(torch.cat([row[number][1:] for row in base]).norm())
        moved = distance(under_other, base, number)
        assert seen["other"].of_base[number] == pytest.approx(moved / length, rel=1e-3)
        assert seen["other"].of_own[number] == pytest.approx(moved / distance(under_own, base, number), rel=1e-3)
        assert seen["own"].of_own[number] == pytest.approx(1.0)
    assert seen["other"].num_rows == len(ROWS)
    assert num_hooks(speaking[0]) == 0


def test_blocks_that_the_own_adapter_does_not_move_have_no_shift_of_own(speaking: tuple[Any, Any]) -> None:
    seen = shifts(*speaking, ROWS, small_update(1, layer=1), {7: small_update(2, layer=0), 8: small_update(3, layer=1)})
    assert seen[7].of_own.keys() == {1}
    assert seen[8].of_base[0] == 0
    assert seen[7].of_base[0] > 0


def test_shifts_are_measured_on_a_seeded_draw_of_rows(speaking: tuple[Any, Any]) -> None:
    def measure(seed: int) -> float:
        update = {"x": small_update(2)}
        return shifts(*speaking, ROWS, small_update(1), update, num_rows=1, seed=seed)["x"].of_base[0]

    assert measure(0) == measure(0)
    assert len({measure(seed) for seed in range(10)}) == len(ROWS)


def test_shifts_refuse_an_update_of_another_model(speaking: tuple[Any, Any]) -> None:
    with pytest.raises(CalibrationError, match="no linear module"):
        shifts(*speaking, ROWS, small_update(1), {"x": small_update(2, layer=9)})
    with pytest.raises(CalibrationError, match="no calibration rows"):
        shifts(*speaking, [], small_update(1), {})
    assert num_hooks(speaking[0]) == 0
