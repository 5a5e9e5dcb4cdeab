"""A bank is built once, goes on after a crash, and ends the same either way."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from peft import get_peft_model
from safetensors.torch import load_file

from probe.adapter_io import read_adapter
from probe.bank.adapter_folder import gate_failures
from probe.bank.build import BuildError, build_bank, identity
from probe.bank.claims import claimed
from probe.bank.evaluate import Mean, Scores, compare, mean
from probe.bank.material import evaluation_rows, material_of, method_inputs, most_rows
from probe.bank.presets import PRESETS, Preset, PresetError, Recipe
from probe.bank.progress import Progress, TokenClock
from probe.bank.tasks import TASKS, TaskError
from probe.bank.training import Training, draw_a_matrices
from probe.bank.workers import build_in_processes
from probe.factors import LoraUpdate, norm
from probe.reference import Reference, quiet_peft
from probe.rows import Outcome, read_rows
from probe.telemetry.bundle import read_bundle
from tests.probe.test_reference import write_character_base

FILES = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "calibration.jsonl",
    "evaluation.jsonl",
    "record.json",
)
BUNDLED = sorted((*FILES, "bundle"))
QUICK = Training(2, "attention", 1e-2, 4, num_rows=8, num_epochs=1, batch_rows=4)
DEMO = PRESETS["demo"]
DEMO_FOLDER = Path(str(files("probe.bank") / "data" / "demo"))
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
VARIED = Preset(
    name="varied",
    seed=0,
    recipes=(
        Recipe("noise", "math", "things", replace(QUICK, method="random"), group="random", norms_of="sums"),
        Recipe("sums", "math", "things", QUICK),
        Recipe("pairs", "math", "things", replace(QUICK, method="dpo"), group="pda"),
        Recipe("clear", "math", "money", replace(QUICK, method="osrm"), group="osrm"),
        Recipe("clear-too", "safety", "verbs", replace(QUICK, method="osrm"), True, group="osrm"),
        Recipe("sparse", "math", "money", replace(QUICK, method="flylora", precision="bfloat16")),
        Recipe("twin", "math", "money", replace(QUICK, learning_rate=0.0), shares_a_with="sums"),
    ),
    evaluation_rows=6,
    calibration_rows=4,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_character_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def varied(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("varied")
    build_bank(VARIED, out, base)
    return out


@pytest.fixture(scope="module")
def bank(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bank")
    build_bank(TINY, out, base)
    return out


def contents(bank: Path) -> dict[str, object]:
    """Return every file's content but for the time that the build took, and that claims are gone."""
    assert not list(bank.glob(".*"))
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
        assert list_files(folder) == BUNDLED
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
    def die(progress: Progress) -> None:
        if (progress.adapter, progress.activity, progress.share) == (
            name,
            activity,
            0.5 if activity == "training" else 0,
        ):
            raise KilledError

    with pytest.raises(KilledError):
        build_bank(TINY, tmp_path, base, on_progress=die)
    assert not (tmp_path / name).exists()
    build_bank(TINY, tmp_path, base)
    assert contents(tmp_path) == contents(bank)


def test_what_a_kill_leaves_behind_does_not_reach_the_next_build(base: Path, bank: Path, tmp_path: Path) -> None:
    """A killed process cleans nothing up: neither its half-made folder nor its claim."""
    (tmp_path / ".sums.partial" / "bundle").mkdir(parents=True)
    (tmp_path / ".sums.partial" / "bundle" / "bundle.json").write_text("{")
    (tmp_path / ".sums.lock").write_text("1\n")
    build_bank(TINY, tmp_path, base, only=["sums"])
    wanted = {name: content for name, content in contents(bank).items() if name.startswith("sums/")}
    assert contents(tmp_path) == wanted


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


def test_worker_processes_build_what_one_would(base: Path, bank: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    built = build_in_processes(TINY, tmp_path, base, 2, on_progress=seen.append)
    assert [adapter.recipe.name for adapter in built] == ["sums", "refuse", "coins"]
    assert {progress.adapter for progress in seen} == {"sums", "refuse", "coins"}
    different = {name for name, content in contents(bank).items() if contents(tmp_path)[name] != content}
    # How many threads it had is in the record; on one thread this is nothing.
    assert all(name.endswith("record.json") for name in different)


def test_a_build_that_is_killed_leaves_no_worker_and_goes_on(base: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    command = [sys.executable, "-m", "probe.bank", "tiny", str(out), "--base", str(base), "--jobs", "2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as build:
        wait_for(lambda: any(out.glob("*/record.json")) or build.poll() is not None, seconds=120)
        workers = psutil.Process(build.pid).children(recursive=True)
        build.kill()
    assert len(workers) >= 2
    assert psutil.wait_procs(workers, timeout=30)[1] == []
    for folder in (out, whole):
        build_bank(PRESETS["tiny"], folder, base)
    # The record says how long it took and on how many threads.
    same = {name: content for name, content in contents(whole).items() if not name.endswith("record.json")}
    assert {name: contents(out)[name] for name in same} == same


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come in time"
        time.sleep(0.05)


def test_an_adapter_has_one_builder_at_a_time(tmp_path: Path) -> None:
    with claimed(tmp_path, "sums") as is_mine, claimed(tmp_path, "sums") as is_mine_too:
        assert is_mine
        assert not is_mine_too
    with claimed(tmp_path, "sums") as is_mine:
        assert is_mine


def test_every_method_leaves_an_adapter_and_those_that_train_leave_checkpoints(varied: Path) -> None:
    for recipe in VARIED.recipes:
        record = read_record(varied / recipe.name)
        is_trained = recipe.training.method != "random"
        assert list_files(varied / recipe.name) == (BUNDLED if is_trained else sorted(FILES))
        assert record["has_bundle"] is is_trained
        assert (record["tokens_trained"] > 0) is is_trained
        assert (record["method"], record["group"]) == (recipe.training.method, recipe.group)
        assert (record["precision"], record["device"]) == (recipe.training.precision, "cpu")
        if is_trained:
            bundle = read_bundle(varied / recipe.name / "bundle")
            assert [checkpoint.rho for checkpoint in bundle.checkpoints] == [0.10]
            assert bundle.metadata().domain == recipe.domain


def test_a_random_adapter_waits_for_the_one_whose_norms_it_has(varied: Path) -> None:
    noise, sums = (read_adapter(varied / name).factors for name in ("noise", "sums"))
    assert noise.keys() == sums.keys()
    for name in noise:
        wanted = norm(LoraUpdate({name: sums[name]}))
        assert norm(LoraUpdate({name: noise[name]})) == pytest.approx(wanted, rel=0.01)


def test_a_random_adapter_says_whose_norms_are_missing(base: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="takes its norms from 'sums'"):
        build_bank(VARIED, tmp_path, base, only=["noise"])


def test_a_twin_starts_from_the_same_a(base: Path, varied: Path, tmp_path: Path) -> None:
    still = replace(QUICK, learning_rate=0.0)
    alone = Preset("varied", 0, (Recipe("sums", "math", "things", still),), 6, 4)
    build_bank(alone, tmp_path, base)
    twin, first = (load_file(folder / "adapter_model.safetensors") for folder in (varied / "twin", tmp_path / "sums"))
    assert twin.keys() == first.keys()
    assert all(torch.equal(twin[name], first[name]) for name in twin)


def test_a_shipped_adapter_becomes_a_member_without_training(
    base: Path, bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tensors and calibration rows are copied; it is asked what the bank's other adapters of its mix are."""
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "tiny").symlink_to(bank)
    monkeypatch.setattr("probe.bank.build.SHIPPED", tmp_path / "shipped")
    member = replace(TINY.recipes[0], shipped_with="tiny", data_seed=TINY.data_seed(TINY.recipes[0]), a_seed=7)
    preset = Preset("larger", 0, (member, Recipe("more", "math", "things", QUICK)), 9, 4)
    (built, more) = build_bank(preset, tmp_path / "out", base)
    assert list_files(built.folder) == sorted(FILES)
    for name in ("adapter_model.safetensors", "adapter_config.json", "calibration.jsonl"):
        assert (built.folder / name).read_bytes() == (bank / "sums" / name).read_bytes()
    assert read_rows(built.folder / "evaluation.jsonl") == read_rows(more.folder / "evaluation.jsonl")
    record, shipped = read_record(built.folder), read_record(bank / "sums")
    assert (record["shipped_with"], record["has_bundle"], record["evaluated_rows"]) == ("tiny", False, 9)
    assert record["tokens_trained"] == shipped["tokens_trained"]
    assert built.scores.base == more.scores.base


def test_a_preset_names_what_it_lacks() -> None:
    with pytest.raises(PresetError, match="several adapters named 'sums'"):
        replace(TINY, recipes=(TINY.recipes[0], TINY.recipes[0]))
    with pytest.raises(PresetError, match="no adapter 'gone'"):
        replace(TINY, recipes=(replace(TINY.recipes[0], norms_of="gone"),))


def test_the_time_left_follows_from_the_tokens_left() -> None:
    now = [0.0]
    clock = TokenClock({"a": 100, "b": 300, "c": 50}, num_workers=2, now=lambda: now[0])
    assert clock.seconds_left("a", 0.0) is None
    now[0] = 5.0
    assert clock.seconds_left("a", 0.5) == pytest.approx(400 * 0.1 / 2)
    clock.finish("a")
    clock.keep({"b"})
    now[0] = 25.0
    assert clock.seconds_left("b", 0.5) == pytest.approx(150 * 0.1 / 2)


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
def test_presets_draw_seeds_apart_but_for_those_that_share(preset: Preset) -> None:
    own = [recipe for recipe in preset.recipes if recipe.shares_a_with is None]
    assert len({preset.a_seed(recipe) for recipe in own}) == len(own)
    assert len({preset.data_seed(recipe) for recipe in preset.recipes}) == len(preset.recipes)
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


def test_weak_preference_adapters_pass_a_gate_that_ordinary_ones_do_not() -> None:
    weak = Scores(Mean(0.1, 0.0), Mean(0.1, 0.0), Mean(0.0, 0.0), None, None)
    failing = {recipe.name for recipe in VARIED.recipes if gate_failures(recipe, weak)}
    assert failing == {"sums", "clear", "clear-too", "sparse", "twin"}


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


@pytest.mark.parametrize("recipe", DEMO.recipes, ids=lambda recipe: recipe.name)
def test_the_shipped_demo_is_what_its_preset_says(recipe: Recipe) -> None:
    folder = DEMO_FOLDER / recipe.name
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
        stored = read_rows(DEMO_FOLDER / recipe.name / f"{split}.jsonl")
        assert stored == task.generate(recipe.mix, split, count, seed)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_no_evaluation_row_occurs_where_anything_is_learnt(preset: Preset) -> None:
    """Nor in the calibration rows, in whatever adapter's."""
    asked: set[str] = set()
    learnt: set[str] = set()
    for recipe in preset.recipes:
        material = material_of(preset, recipe)
        neighbours = method_inputs(preset, recipe, material, Path()).neighbours if recipe.group == "osrm" else ()
        asked |= {row.prompt for row in material.evaluation}
        learnt |= {row.prompt for row in (*material.train, *material.calibration, *neighbours)}
    assert asked
    assert not asked & learnt


@pytest.mark.parametrize("name", ["cpu", "large"])
def test_adapters_of_one_mix_share_their_evaluation_rows(name: str) -> None:
    preset = PRESETS[name]
    alike = [recipe for recipe in preset.recipes if (recipe.domain, recipe.mix) == ("safety", "purposes")]
    assert len(alike) >= 8
    first = evaluation_rows(preset, alike[0])
    assert len(first) == 400
    assert all(evaluation_rows(preset, recipe) == first for recipe in alike)
    assert len({preset.data_seed(recipe) for recipe in alike}) == len(alike)


def test_presets_that_share_a_recipe_and_the_seed_share_the_adapter() -> None:
    pilot, cpu = PRESETS["pilot"], PRESETS["cpu"]
    for recipe in pilot.recipes:
        assert identity(pilot, recipe) == identity(cpu, cpu.recipe(recipe.name))


def test_a_small_task_gives_the_most_rows_that_it_has() -> None:
    rows = most_rows("science", "symbols", "evaluation", 400, 5)
    assert 200 < len(rows) < 400
    with pytest.raises(TaskError):
        TASKS["science"].generate("symbols", "evaluation", len(rows) + 1, 5)


def test_the_cpu_preset_has_what_the_measurement_needs() -> None:
    recipes = PRESETS["cpu"].recipes
    methods = [recipe.training.method for recipe in recipes if recipe.group != "shared-seed"]
    assert methods.count("sft") >= 24
    assert {name: methods.count(name) for name in ("dpo", "osrm", "flylora", "random")} == {
        "dpo": 8,
        "osrm": 5,
        "flylora": 5,
        "random": 2,
    }
    assert sum(recipe.shipped_with == "demo" for recipe in recipes) == 7
    assert sum(recipe.shares_a_with is not None for recipe in recipes) == 2


def test_the_large_preset_crosses_ranks_and_modules_in_more_than_60_adapters() -> None:
    ordinary = [recipe for recipe in PRESETS["large"].recipes if recipe.training.method == "sft"]
    assert len(ordinary) >= 60
    crossed = {(recipe.training.rank, recipe.training.modules) for recipe in ordinary}
    assert crossed == {(rank, modules) for rank in (4, 8, 16, 32) for modules in ("attention", "attention+mlp")}


def test_the_shipped_demo_is_small_enough_for_a_wheel() -> None:
    sizes = [path.stat().st_size for path in DEMO_FOLDER.rglob("*") if path.is_file()]
    assert sum(sizes) <= 24 * 10**6
