"""A bank is built once, goes on after a crash, and ends the same either way."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from safetensors.torch import load_file

from probe.bank.build import BuildError, build_bank, identity
from probe.bank.evaluate import Mean, Scores, compare, mean
from probe.bank.presets import PRESETS, Preset, Recipe
from probe.bank.tasks import TASKS
from probe.bank.train import Training, draw_a_matrices
from probe.reference import Reference, quiet_peft
from probe.rows import Outcome, read_rows
from tests.probe.test_reference import write_character_base

FILES = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "calibration.jsonl",
    "evaluation.jsonl",
    "record.json",
)
QUICK = Training(2, "attention", 1e-2, 4, num_rows=8, num_epochs=1, batch_rows=4)
TINY = Preset(
    name="tiny",
    seed=0,
    recipes=(
        Recipe("sums", "math", "things", QUICK),
        Recipe("refuse", "safety", "verbs", replace(QUICK, modules="attention+mlp"), True),
        Recipe("coins", "math", "money", replace(QUICK, rank=4)),
    ),
    evaluation_rows=6,
    calibration_rows=4,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_character_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def bank(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bank")
    build_bank(TINY, out, base)
    return out


def contents(bank: Path) -> dict[str, object]:
    """Return every file's content but for the time that the build took."""
    found: dict[str, object] = {}
    for path in sorted(bank.rglob("*")):
        if path.name == "record.json":
            found[str(path.relative_to(bank))] = read_record(path.parent) | {"minutes": None}
        elif path.is_file():
            found[str(path.relative_to(bank))] = path.read_bytes()
    return found


def read_record(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "record.json").read_text())
    return record


def list_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class KilledError(Exception):
    """Stands for the end of the process."""


def test_every_adapter_has_its_files_rows_and_record(bank: Path) -> None:
    assert list_files(bank) == ["coins", "refuse", "sums"]
    for recipe in TINY.recipes:
        folder = bank / recipe.name
        assert list_files(folder) == sorted(FILES)
        assert len(read_rows(folder / "evaluation.jsonl")) == 6
        assert len(read_rows(folder / "calibration.jsonl")) == 4
        record = read_record(folder)
        assert record["protected"] is (recipe.name == "refuse")
        assert record["identity"]["a_seed"] == TINY.a_seed(recipe)
        assert record["tokens_trained"] > 0


def test_adapters_are_bfloat16_and_have_the_rank_of_their_recipe(bank: Path) -> None:
    for recipe in TINY.recipes:
        tensors = load_file(bank / recipe.name / "adapter_model.safetensors")
        assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
        downs = [tensor for name, tensor in tensors.items() if "lora_A" in name]
        assert {tensor.shape[0] for tensor in downs} == {recipe.training.rank}
        assert len(downs) == 2 * len(recipe.training.target_modules)


@pytest.mark.parametrize(("name", "activity"), [("sums", "training"), ("refuse", "training"), ("coins", "scoring")])
def test_a_killed_build_goes_on_and_ends_the_same(
    base: Path, bank: Path, tmp_path: Path, name: str, activity: str
) -> None:
    def die(at_name: str, at_activity: str, share: float) -> None:
        if (at_name, at_activity) == (name, activity):
            raise KilledError

    with pytest.raises(KilledError):
        build_bank(TINY, tmp_path, base, progress=die)
    assert not (tmp_path / name).exists()
    build_bank(TINY, tmp_path, base)
    assert contents(tmp_path) == contents(bank)


def test_a_finished_bank_is_read_without_a_model(bank: Path, tmp_path: Path) -> None:
    before = contents(bank)
    built = build_bank(TINY, bank, tmp_path / "no-model-here")
    assert contents(bank) == before
    assert [adapter.recipe.name for adapter in built] == ["sums", "refuse", "coins"]
    for adapter in built:
        assert list(adapter.gate_failures) == read_record(adapter.folder)["gate_failures"]


def test_processes_that_share_a_bank_build_what_one_would(base: Path, bank: Path, tmp_path: Path) -> None:
    for names in (["coins"], ["sums", "refuse"]):
        built = build_bank(TINY, tmp_path, base, only=names)
        assert sorted(adapter.recipe.name for adapter in built) == sorted(names)
    assert contents(tmp_path) == contents(bank)


def test_a_folder_of_another_recipe_is_not_taken_over(base: Path, bank: Path) -> None:
    changed = replace(TINY, recipes=(replace(TINY.recipes[0], mix="money"), *TINY.recipes[1:]))
    with pytest.raises(BuildError, match="sums was built from another recipe"):
        build_bank(changed, bank, base)


def test_a_folder_without_a_record_is_not_taken_over(base: Path, tmp_path: Path) -> None:
    (tmp_path / "sums").mkdir()
    with pytest.raises(BuildError, match="no readable record"):
        build_bank(TINY, tmp_path, base)


def test_the_start_of_a_depends_on_its_seed_alone(base: Path) -> None:
    def start(seed: int) -> torch.Tensor:
        torch.rand(seed)  # global random state must not matter
        with quiet_peft():
            wrapped = get_peft_model(Reference(base).model, QUICK.lora_config())
        draw_a_matrices(wrapped, seed)
        parameters = wrapped.requires_grad_(False).named_parameters()
        return torch.cat([p.flatten() for n, p in parameters if "lora_A" in n])

    assert torch.equal(start(1), start(1))
    assert not torch.equal(start(1), start(2))
    assert float(start(1).abs().max()) <= 1 / math.sqrt(32)


@pytest.mark.parametrize("preset", [*PRESETS.values(), TINY], ids=lambda preset: preset.name)
def test_presets_name_their_adapters_and_seeds_apart(preset: Preset) -> None:
    assert len({recipe.name for recipe in preset.recipes}) == len(preset.recipes)
    assert len({preset.a_seed(recipe) for recipe in preset.recipes}) == len(preset.recipes)
    for recipe in preset.recipes:
        assert recipe.mix in TASKS[recipe.domain].mixes
        assert recipe.is_protected is (recipe.domain == "safety")


def test_the_demo_has_two_mixes_of_one_domain_and_both_kinds_of_modules() -> None:
    recipes = PRESETS["demo"].recipes
    maths = [recipe for recipe in recipes if recipe.domain == "math"]
    assert len({(recipe.mix, recipe.training.rank) for recipe in maths}) == 2
    assert {recipe.training.modules for recipe in recipes} == {"attention", "attention+mlp"}
    assert {recipe.domain for recipe in recipes} == set(TASKS)


def test_gains_are_paired_row_by_row() -> None:
    base = [Outcome(score) for score in (0.0, 0.0, 1.0, 1.0)]
    single = [Outcome(score) for score in (1.0, 1.0, 1.0, 1.0)]
    scores = compare(base, single)
    assert (scores.base.value, scores.single.value, scores.gain.value) == (0.5, 1.0, 0.5)
    assert scores.gain.standard_error == pytest.approx(math.sqrt(1 / 3) / 2)
    assert scores.base_log_likelihood is None
    assert compare([Outcome(0.0, -3.0)], [Outcome(1.0, -1.0)]).single_log_likelihood == -1.0


def test_one_value_has_no_finite_standard_error() -> None:
    assert mean([0.5]) == Mean(0.5, math.inf)


@pytest.mark.parametrize(
    ("base", "single", "gain", "error", "failures"),
    [
        (0.1, 0.8, 0.7, 0.03, []),
        (0.7, 0.9, 0.2, 0.03, ["base score 0.700 is over"]),
        (0.0, 0.4, 0.4, 0.03, ["adapter score 0.400 is under"]),
        (0.4, 0.5, 0.1, 0.05, ["gain 0.100 is under 5 standard errors"]),
        (0.6, 0.5, -0.1, 0.0, ["gain -0.100 is under", "gains nothing"]),
    ],
)
def test_the_gate_says_why_an_adapter_may_not_ship(
    base: float, single: float, gain: float, error: float, failures: list[str]
) -> None:
    scores = Scores(Mean(base, 0.0), Mean(single, 0.0), Mean(gain, error), None, None)
    found = scores.gate_failures()
    assert len(found) == len(failures)
    assert all(want in have for want, have in zip(failures, found, strict=True))


DEMO = PRESETS["demo"]
DEMO_FOLDER = files("probe.bank") / "data" / "demo"


@pytest.mark.parametrize("recipe", DEMO.recipes, ids=lambda recipe: recipe.name)
def test_the_shipped_demo_is_what_its_preset_says(recipe: Recipe) -> None:
    folder = Path(str(DEMO_FOLDER / recipe.name))
    record = read_record(folder)
    assert record["identity"] == identity(DEMO, recipe)
    assert record["gate_failures"] == []
    assert record["protected"] is recipe.is_protected
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config == recipe.training.peft_fields()
    assert list_files(folder) == sorted(FILES)


@pytest.mark.parametrize("recipe", DEMO.recipes, ids=lambda recipe: recipe.name)
def test_the_shipped_rows_are_those_that_the_task_generates(recipe: Recipe) -> None:
    if recipe.domain == "science":
        pytest.importorskip("periodictable", reason="the science facts come from it")
    task, seed = TASKS[recipe.domain], DEMO.data_seed(recipe)
    for split, count in (("calibration", DEMO.calibration_rows), ("evaluation", DEMO.evaluation_rows)):
        stored = read_rows(Path(str(DEMO_FOLDER / recipe.name / f"{split}.jsonl")))
        assert stored == task.generate(recipe.mix, split, count, seed)


def test_the_shipped_demo_is_small_enough_for_a_wheel() -> None:
    sizes = [path.stat().st_size for path in Path(str(DEMO_FOLDER)).rglob("*") if path.is_file()]
    assert sum(sizes) <= 24 * 10**6
