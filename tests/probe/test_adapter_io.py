import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from probe.adapter_io import AdapterError, read_adapter, revision_of, write_adapter
from probe.base_model import BaseShapes
from probe.factors import LoraFactor, LoraUpdate
from tests import tiny

BASE = BaseShapes(tiny.BASE_NAME, (), tiny.SHAPES)
# PEFT 0.21 still reads a name that transformers 5 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
Q0 = "model.layers.0.self_attn.q_proj"
Q0_A = f"base_model.model.{Q0}.lora_A.weight"


def delta(factor: LoraFactor) -> torch.Tensor:
    return factor.B.double() @ factor.A.double()


def peft_deltas(folder: Path, base_folder: Path) -> dict[str, torch.Tensor]:
    """Load an adapter with PEFT itself and return its dense updates: the oracle."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base_folder), folder)
    return {
        name.removeprefix("base_model.model."): module.get_delta_weight("default").double()
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight")
    }


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_base(tmp_path_factory.mktemp("base"))


SCALINGS: dict[str, dict[str, object]] = {
    "plain": {},
    "rank-stabilised": {"use_rslora": True},
    "rank pattern": {"rank_pattern": {"q_proj": 2}},
    "alpha pattern by regular expression": {"alpha_pattern": {r"layers\.1\..*": 3, "q_proj": 5}},
    "full name, rank-stabilised": {"rank_pattern": {Q0: 1}, "alpha_pattern": {Q0: 7}, "use_rslora": True},
}


@pytest.mark.parametrize("overrides", SCALINGS.values(), ids=SCALINGS.keys())
def test_scales_agree_with_peft(tmp_path: Path, base_folder: Path, overrides: dict[str, object]) -> None:
    folder = tiny.write_adapter(tmp_path, **overrides)
    update, expected = read_adapter(folder, BASE), peft_deltas(folder, base_folder)
    assert update.factors.keys() == expected.keys()
    for module, factor in update.factors.items():
        torch.testing.assert_close(delta(factor), expected[module], rtol=1e-5, atol=1e-5)


TARGETS: dict[str, dict[str, object]] = {
    "regular expression": {"target_modules": r".*layers\.0\..*(q_proj|down_proj)"},
    "all linear": {"target_modules": "all-linear"},
    "some layers": {"target_modules": ["q_proj", "up_proj"], "layers_to_transform": [1]},
    "layers by pattern": {"target_modules": ["v_proj"], "layers_to_transform": 0, "layers_pattern": "layers"},
    "without some": {"target_modules": ["q_proj", "v_proj"], "exclude_modules": r".*layers\.0.*v_proj"},
}


@pytest.mark.filterwarnings("ignore:.*base_model_name_or_path")
@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS.keys())
def test_what_peft_saves_is_read_whatever_names_its_targets(
    tmp_path: Path, base_folder: Path, targets: dict[str, object]
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(base_folder)
    config = LoraConfig(r=3, lora_alpha=5, task_type="CAUSAL_LM", init_lora_weights=False, **targets)
    get_peft_model(base, config).save_pretrained(tmp_path, save_embedding_layers=False)
    update, expected = read_adapter(tmp_path), peft_deltas(tmp_path, base_folder)
    assert update.factors.keys() == expected.keys()
    for module, factor in update.factors.items():
        torch.testing.assert_close(delta(factor), expected[module], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("overrides", SCALINGS.values(), ids=SCALINGS.keys())
def test_written_folders_load_in_peft_with_the_same_update(
    tmp_path: Path, base_folder: Path, overrides: dict[str, object]
) -> None:
    update = read_adapter(tiny.write_adapter(tmp_path / "in", **overrides), BASE)
    write_adapter(tmp_path / "out", update, tiny.BASE_NAME, torch.float32)
    expected = peft_deltas(tmp_path / "out", base_folder)
    assert update.factors.keys() == expected.keys()
    for module, factor in update.factors.items():
        torch.testing.assert_close(delta(factor), expected[module], rtol=1e-5, atol=1e-5)


def test_modules_of_some_layers_only_load_in_peft(tmp_path: Path, base_folder: Path) -> None:
    ranks = {Q0: 3, "model.layers.1.mlp.down_proj": 1}
    write_adapter(tmp_path, tiny.random_update(0, ranks), tiny.BASE_NAME, torch.float32)
    assert peft_deltas(tmp_path, base_folder).keys() == ranks.keys()


def test_written_folders_suit_vllm(tmp_path: Path) -> None:
    """Mirror what vLLM 0.29 does: one scale alpha/r for all, and tensors no larger than r."""
    write_adapter(tmp_path, tiny.random_update(0, {Q0: 3, "model.layers.1.mlp.down_proj": 1}), tiny.BASE_NAME)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (3, 3, False)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert {tensor.shape[0 if "lora_A" in key else 1] for key, tensor in tensors.items()} == {3}
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}


def test_written_files_are_readable_for_everyone(tmp_path: Path) -> None:
    write_adapter(tmp_path, tiny.random_update(0), tiny.BASE_NAME)
    assert {path.stat().st_mode & 0o444 for path in tmp_path.iterdir()} == {0o444}


def test_writing_is_deterministic(tmp_path: Path) -> None:
    update = tiny.random_update(0)
    backwards = LoraUpdate(dict(reversed(update.factors.items())))
    write_adapter(tmp_path / "a", update, tiny.BASE_NAME)
    write_adapter(tmp_path / "b", backwards, tiny.BASE_NAME)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_is_read_into_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    factors = read_adapter(tiny.write_adapter(tmp_path, dtype=dtype), BASE).factors
    assert {tensor.dtype for factor in factors.values() for tensor in (factor.A, factor.B)} == {torch.float32}


@pytest.mark.parametrize(
    ("update", "dtype"), [(LoraUpdate({}), torch.bfloat16), (tiny.random_update(0), torch.float16)]
)
def test_writing_refuses(tmp_path: Path, update: LoraUpdate, dtype: torch.dtype) -> None:
    with pytest.raises(AdapterError, match="expected one or more"):
        write_adapter(tmp_path, update, tiny.BASE_NAME, dtype)


REFUSED_CONFIGS: list[tuple[str, object]] = [
    ("peft_type", "IA3"),
    ("task_type", "SEQ_CLS"),
    ("target_modules", None),
    ("base_model_name_or_path", "other/model"),
    ("base_model_name_or_path", None),
    ("base_model_name_or_path", 3),
    ("use_dora", True),
    ("use_qalora", True),
    ("use_bdlora", {"nblocks": 2}),
    ("use_something_new", True),
    ("use_rslora", "yes"),
    ("bias", "all"),
    ("lora_bias", True),
    ("modules_to_save", ["lm_head"]),
    ("trainable_token_indices", [0]),
    ("target_parameters", ["x"]),
    ("layer_replication", [[0, 1]]),
    ("megatron_config", {"a": 1}),
    ("fan_in_fan_out", True),
    ("alora_invocation_tokens", [1]),
    ("kasa_config", {"beta": 1}),
    ("init_lora_weights", "pissa_niter_4"),
    ("init_lora_weights", "loftq"),
    ("r", 0),
    ("r", "4"),
    ("r", True),
    ("lora_alpha", -1),
    ("lora_alpha", math.inf),
    ("rank_pattern", {"(": 2}),
    ("rank_pattern", [1]),
    ("alpha_pattern", {"q_proj": "x"}),
]


@pytest.mark.parametrize(("option", "value"), REFUSED_CONFIGS)
def test_configs_are_refused_by_name(tmp_path: Path, option: str, value: object) -> None:
    folder = tiny.write_adapter(tmp_path, **{option: value})
    with pytest.raises(AdapterError) as caught:
        read_adapter(folder, BASE)
    assert caught.value.field == f"adapter_config.{option}"
    assert option in str(caught.value)


def test_harmless_leftovers_are_accepted(tmp_path: Path) -> None:
    leftovers = {"init_lora_weights": "eva", "eva_config": {"rho": 2.0}, "loftq_config": {}, "modules_to_save": []}
    none_set = {"use_dora": False, "bias": "none", "layer_replication": None, "unsloth_fixed": True, "task_type": None}
    assert read_adapter(tiny.write_adapter(tmp_path, **leftovers, **none_set), BASE).rank == 4


@pytest.mark.parametrize("text", ["{", "[]", '"x"', "\x00"])
def test_broken_config_files_are_refused(tmp_path: Path, text: str) -> None:
    folder = tiny.write_adapter(tmp_path)
    (folder / "adapter_config.json").write_text(text)
    with pytest.raises(AdapterError, match=r"adapter_config\.json"):
        read_adapter(folder)


Tensors = dict[str, torch.Tensor]


def _rename(old: str, new: str) -> Callable[[Tensors], Any]:
    return lambda tensors: tensors.update({new: tensors.pop(old)})


def _replace(shape_or_tensor: torch.Tensor) -> Callable[[Tensors], Any]:
    return lambda tensors: tensors.update({Q0_A: shape_or_tensor})


TENSOR_DAMAGES: dict[str, tuple[Callable[[Tensors], Any], str]] = {
    "no tensor": (lambda tensors: tensors.clear(), "no tensor"),
    "missing partner": (lambda tensors: tensors.pop(Q0_A), "partner"),
    "DoRA vector": (_rename(Q0_A, f"base_model.model.{Q0}.lora_magnitude_vector"), "unexpected"),
    "embedding": (_rename(Q0_A, "base_model.model.model.embed_tokens.lora_embedding_A"), "unexpected"),
    "no prefix": (_rename(Q0_A, f"{Q0}.lora_A.weight"), "unexpected"),
    "rank unlike config": (_replace(torch.zeros(3, 32)), "declares rank 4"),
    "three axes": (_replace(torch.zeros(4, 32, 1)), "declares rank 4"),
    "other width": (_replace(torch.zeros(4, 31)), "trained on another base"),
    "NaN": (_replace(torch.full((4, 32), math.nan)), "NaN"),
    "infinite": (_replace(torch.full((4, 32), math.inf)), "infinite"),
    "integers": (_replace(torch.zeros(4, 32, dtype=torch.int8)), "expected one of"),
    "unknown module": (
        lambda tensors: [
            _rename(f"base_model.model.{Q0}.lora_{side}.weight", f"base_model.model.x.lora_{side}.weight")(tensors)
            for side in "AB"
        ],
        "not in base model",
    ),
}


@pytest.mark.parametrize(("damage", "message"), TENSOR_DAMAGES.values(), ids=TENSOR_DAMAGES.keys())
def test_tensors_are_refused_by_name(tmp_path: Path, damage: Callable[[Tensors], Any], message: str) -> None:
    folder = tiny.write_adapter(tmp_path)
    tensors = load_file(folder / "adapter_model.safetensors")
    damage(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match=message) as caught:
        read_adapter(folder, BASE)
    assert caught.value.field == "tensors"


def test_ranks_over_the_engines_are_refused(tmp_path: Path) -> None:
    folder = tiny.write_adapter(tmp_path, rank=8)
    assert read_adapter(folder, BASE, max_rank=8).rank == 8
    with pytest.raises(AdapterError, match="at most 4") as caught:
        read_adapter(folder, BASE, max_rank=4)
    assert caught.value.field == "adapter_config.r"


def test_ranks_over_the_modules_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="exceeds its size"):
        read_adapter(tiny.write_adapter(tmp_path, rank=17), BASE)


def test_pickles_are_refused(tmp_path: Path) -> None:
    folder = tiny.write_adapter(tmp_path)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(AdapterError, match="pickle"):
        read_adapter(folder)


@pytest.mark.parametrize("read", [read_adapter, revision_of])
def test_damaged_tensor_files_are_refused(tmp_path: Path, read: Callable[[Path], object]) -> None:
    path = tiny.write_adapter(tmp_path) / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(AdapterError, match="not a readable safetensors file"):
        read(tmp_path)


def test_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="is missing"):
        read_adapter(tmp_path)
    (tiny.write_adapter(tmp_path) / "adapter_model.safetensors").unlink()
    with pytest.raises(AdapterError, match="is missing"):
        read_adapter(tmp_path)


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(AdapterError("seen this", "tensors")))
    assert (str(error), error.field) == ("seen this", "tensors")


def test_revisions_ignore_formatting_and_other_files(tmp_path: Path) -> None:
    folder = tiny.write_adapter(tmp_path)
    before = revision_of(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(dict(reversed(config.items())), indent=4))
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"note": "x"})
    (folder / "README.md").write_text("x")
    assert revision_of(folder) == before
    assert len(before) == 64


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"rank": 2}, {"lora_alpha": 9}, {"dtype": torch.bfloat16}, {"modules": ("q_proj",)}],
    ids=str,
)
def test_revisions_notice_every_change_of_content(tmp_path: Path, change: dict[str, Any]) -> None:
    before = revision_of(tiny.write_adapter(tmp_path / "a"))
    assert revision_of(tiny.write_adapter(tmp_path / "b", **change)) != before
