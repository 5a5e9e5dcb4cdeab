"""PEFT's own merges: where ours agree with them, and where PEFT computes something else (seen in peft 0.21.2)."""

# ruff: noqa: N806 - B, A and the like are what every LoRA paper calls these matrices

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import peft
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import LlamaForCausalLM

from probe.adapter_io import AdapterError, read_adapter, write_adapter
from probe.factors import LoraFactor, LoraUpdate
from probe.operators import Recipe, merge
from probe.reference import quiet_peft
from tests import tiny
from tests.probe.members import assert_same, dense

PINNED = "0.21.2"
WEIGHTS = (0.7, 1.6)
MODULES = {name: shape for name, shape in tiny.SHAPES.items() if name.endswith(("q_proj", "v_proj"))}

pytestmark = pytest.mark.skipif(peft.__version__ != PINNED, reason=f"says what peft {PINNED} does")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_base(tmp_path_factory.mktemp("base"))


@contextmanager
def adapted(base: Path, folders: Sequence[Path]) -> Iterator[PeftModel]:
    """Load adapters "0", "1", ... onto a fresh base."""
    with quiet_peft():
        model = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), str(folders[0]), adapter_name="0")
        for index, folder in enumerate(folders[1:], start=1):
            model.load_adapter(str(folder), adapter_name=str(index))
        yield model


def delta(model: PeftModel, adapter: str) -> dict[str, Tensor]:
    """Return the dense updates that PEFT itself applies."""
    layers = {name: model.base_model.model.get_submodule(name) for name in MODULES}
    return {name: layer.get_delta_weight(adapter).detach().double() for name, layer in layers.items()}


def peft_merge(base: Path, folders: Sequence[Path], kind: str, **options: object) -> dict[str, Tensor]:
    with adapted(base, folders) as model:
        names = [str(index) for index in range(len(folders))]
        weights = list(WEIGHTS[: len(folders)])
        model.add_weighted_adapter(names, weights, "merged", combination_type=kind, **options)
        return delta(model, "merged")


def our_merge(folders: Sequence[Path], operator: str, rank: int) -> LoraUpdate:
    updates = [read_adapter(folder) for folder in folders]
    return merge(updates, Recipe(operator, WEIGHTS[: len(folders)], "none", rank)).update


def exact_sum(base: Path, folders: Sequence[Path]) -> dict[str, Tensor]:
    with adapted(base, folders) as model:
        parts = [delta(model, str(index)) for index in range(len(folders))]
    return {name: sum(w * part[name] for w, part in zip(WEIGHTS, parts, strict=False)) for name in MODULES}


def distance(seen: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Return |seen - expected| / |expected| over all modules."""
    square = sum(float((seen[name] - expected[name]).square().sum()) for name in MODULES)
    return float((square / sum(float(value.square().sum()) for value in expected.values())) ** 0.5)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two plain LoRAs of rank 3 with alpha = r."""
    folder = tmp_path_factory.mktemp("plain")
    return [tiny.write_adapter(folder / str(seed), 3, seed, lora_alpha=3) for seed in range(2)]


def test_concat_is_cat(base: Path, plain: list[Path]) -> None:
    assert_same(our_merge(plain, "concat", 8), peft_merge(base, plain, "cat"), MODULES)


@pytest.mark.parametrize("rank", [2, 4, 6])
def test_svd_is_svd(base: Path, plain: list[Path], rank: int) -> None:
    assert_same(our_merge(plain, "svd", rank), peft_merge(base, plain, "svd", svd_rank=rank), MODULES)


def test_members_of_mixed_ranks_agree(base: Path, tmp_path: Path) -> None:
    mixed = [tiny.write_adapter(tmp_path / str(rank), rank, rank, lora_alpha=rank) for rank in (2, 5)]
    assert_same(our_merge(mixed, "concat", 8), peft_merge(base, mixed, "cat"), MODULES)
    assert_same(our_merge(mixed, "svd", 4), peft_merge(base, mixed, "svd", svd_rank=4), MODULES)


def test_peft_linear_is_not_the_sum(base: Path, plain: list[Path]) -> None:
    """(sum sqrt(w) B_i)(sum sqrt(w) A_i) has the cross terms B_1 A_2 and B_2 A_1: off by about its own length."""
    seen = peft_merge(base, plain, "linear")
    expected = exact_sum(base, plain)
    assert distance(seen, expected) > 0.5
    factors = [read_adapter(folder).factors for folder in plain]
    for name in MODULES:
        B = sum(w**0.5 * f[name].B for w, f in zip(WEIGHTS, factors, strict=True))
        A = sum(w**0.5 * f[name].A for w, f in zip(WEIGHTS, factors, strict=True))
        torch.testing.assert_close(seen[name].float(), B @ A, rtol=1e-4, atol=1e-4)


def test_peft_linear_depends_on_the_gauge_and_ours_does_not(base: Path, plain: list[Path], tmp_path: Path) -> None:
    update = read_adapter(plain[1])
    turned = LoraUpdate({name: LoraFactor(B=-factor.B, A=-factor.A) for name, factor in update.factors.items()})
    write_adapter(tmp_path / "turned", turned, tiny.BASE_NAME, torch.float32)
    same = [plain[0], tmp_path / "turned"]
    assert distance(peft_merge(base, same, "linear"), peft_merge(base, plain, "linear")) > 0.5
    assert_same(our_merge(same, "ta", 6), dense(our_merge(plain, "ta", 6)), MODULES)


SOURCES: list[dict[str, object]] = [
    {"lora_alpha": 12},
    {"lora_alpha": 3, "alpha_pattern": {"v_proj": 9}},
    {"lora_alpha": 3, "rank_pattern": {"v_proj": 5}},
]


@pytest.mark.parametrize("options", SOURCES)
def test_scales_and_patterns_agree_in_this_release(base: Path, options: dict[str, object], tmp_path: Path) -> None:
    """Older releases squared the scale alpha / r in svd."""
    folders = [tiny.write_adapter(tmp_path / str(seed), 3, seed, **options) for seed in range(2)]
    expected = exact_sum(base, folders)
    for kind, chosen in (("cat", {}), ("svd", {"svd_rank": 10})):
        assert distance(peft_merge(base, folders, kind, **chosen), expected) < 1e-5
    assert_same(our_merge(folders, "concat", 16), expected, MODULES)


@pytest.fixture
def rank_stabilised(tmp_path: Path) -> list[Path]:
    return [tiny.write_adapter(tmp_path / str(seed), 3, seed, lora_alpha=3, use_rslora=True) for seed in range(2)]


@pytest.mark.parametrize(("kind", "options", "rank"), [("cat", {}, 6), ("svd", {"svd_rank": 8}, 8)])
def test_peft_lengthens_rank_stabilised_members(
    base: Path, rank_stabilised: list[Path], kind: str, options: dict[str, object], rank: int
) -> None:
    """The merged adapter's config still says rsLoRA, with alpha = r: too long by the root of the merged rank."""
    expected = exact_sum(base, rank_stabilised)
    seen = peft_merge(base, rank_stabilised, kind, **options)
    assert distance(seen, {name: rank**0.5 * value for name, value in expected.items()}) < 1e-5
    assert_same(our_merge(rank_stabilised, "concat", 8), expected, MODULES)
    assert_same(our_merge(rank_stabilised, "svd", 8), expected, MODULES)


@pytest.mark.filterwarnings("ignore:.lora_bias=True. was passed")  # the tiny base has no biases to fold them into
def test_peft_loses_biases_and_we_refuse_them(base: Path, tmp_path: Path) -> None:
    """What PEFT's merged adapter has for a bias is that of a fresh layer: random, not the members' sum."""
    config = LoraConfig(r=3, lora_alpha=3, target_modules=["q_proj"], lora_bias=True, init_lora_weights=False)
    with quiet_peft():
        model = get_peft_model(LlamaForCausalLM.from_pretrained(base), config, adapter_name="0")
        model.add_adapter("1", config)
    layer = model.base_model.model.get_submodule("model.layers.0.self_attn.q_proj")
    for name in "01":
        torch.nn.init.constant_(layer.lora_B[name].bias, 1.0)
    model.add_weighted_adapter(["0", "1"], list(WEIGHTS), "merged", combination_type="cat")
    assert not torch.allclose(layer.lora_B["merged"].bias, torch.full((tiny.HIDDEN,), sum(WEIGHTS)))
    assert layer.lora_B["merged"].bias.unique().numel() > 1
    with pytest.raises(AdapterError, match="lora_bias"):
        read_adapter(tiny.write_adapter(tmp_path, lora_bias=True))


def test_peft_linear_refuses_mixed_ranks_and_we_do_not(base: Path, tmp_path: Path) -> None:
    mixed = [tiny.write_adapter(tmp_path / str(rank), rank, rank, lora_alpha=rank) for rank in (2, 5)]
    with pytest.raises(ValueError, match="same r"):
        peft_merge(base, mixed, "linear")
    assert_same(our_merge(mixed, "ta", 8), exact_sum(base, mixed), MODULES)
