import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from probe.base_model import BaseModelError, BaseShapes, read_base_shapes
from tests import tiny


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_base(tmp_path_factory.mktemp("base"))


def test_shapes_are_those_of_the_model(base_folder: Path) -> None:
    modules = read_base_shapes(base_folder, "tiny").modules
    assert dict(tiny.SHAPES).items() <= dict(modules).items()
    assert modules["lm_head"] == (64, tiny.HIDDEN)
    assert not any("norm" in module for module in modules)


def test_sharded_models_are_read_through_their_index(tmp_path: Path) -> None:
    save_file({"a.weight": torch.zeros(2, 3)}, tmp_path / "model-1.safetensors")
    save_file({"b.weight": torch.zeros(4, 5), "b.bias": torch.zeros(4)}, tmp_path / "model-2.safetensors")
    weight_map = {"a.weight": "model-1.safetensors", "b.weight": "model-2.safetensors", "b.bias": "model-2.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert read_base_shapes(tmp_path, "x").modules == {"a": (2, 3), "b": (4, 5)}


@pytest.mark.parametrize(
    ("name", "is_accepted"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", True),
        ("huggingfacetb/smollm2-135m-instruct", True),
        ("someone/else/SmolLM2-135M-Instruct/", True),
        ("embedded", True),
        ("SmolLM2-135M", False),
        ("", False),
    ],
)
def test_a_base_accepts_its_own_names(name: str, is_accepted: bool) -> None:
    base = BaseShapes("HuggingFaceTB/SmolLM2-135M-Instruct", ("embedded",), {})
    assert base.accepts(name) is is_accepted


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"expected model\.safetensors"):
        read_base_shapes(tmp_path, "x")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"not safetensors at all")
    with pytest.raises(BaseModelError, match="not a readable safetensors file"):
        read_base_shapes(tmp_path, "x")


@pytest.mark.parametrize("index", ["{", "[]", "{}", '{"weight_map": 3}'])
def test_a_damaged_index_is_refused(tmp_path: Path, index: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(BaseModelError, match="weight_map"):
        read_base_shapes(tmp_path, "x")


def test_a_model_without_matrices_is_refused(tmp_path: Path) -> None:
    save_file({"norm.weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(BaseModelError, match="no two-dimensional"):
        read_base_shapes(tmp_path, "x")
