"""The merge as a Ray task, on a real private Ray: its limits, and what becomes of a worker that dies."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import ray

from probe.adapter_io import write_adapter
from probe.operators import MergeError
from probe.records import Pruned
from router.records import Recipe
from serve import merge_job
from serve.limited import task
from serve.limited.limits import MergeConfig
from serve.merge_job import MergeKeepsCrashing, MergeOutOfMemory, MergeTimedOut, RayMerge
from serve.merging import Merge, MergeInterrupted, MergeReport, merge_files
from tests import tiny

NUM_CPUS = 2
RECIPE = Recipe("dare", ("a" * 64, "b" * 64), (1.0, (0.5, 1.0, 2.0)), "mean_source", 8, seed=3)
RECIPE = replace(RECIPE, pruned=(Pruned(0, "model.layers.0.self_attn.q_proj"),), hyper_parameters=(("p", 0.3),))


@pytest.fixture(scope="module", autouse=True)
def _local_ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        # What keeps Ray on loopback. Another test has imported it already, so the variable is for its processes only.
        patch.setattr("ray._private.ray_constants.ENABLE_RAY_CLUSTER", False)
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        ray.init(num_cpus=NUM_CPUS, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
        assert ray.util.get_node_ip_address() == "127.0.0.1"
        yield
        ray.shutdown()


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [tiny.write_adapter(tmp_path / str(seed), seed=seed) for seed in range(2)]


def note_worker(target: Path) -> None:
    target.with_suffix(".pid").write_text(str(os.getpid()))


def worker_of(target: Path) -> int:
    return int(target.with_suffix(".pid").read_text())


def noted(
    folders: Sequence[Path], recipe: Recipe, base_name: str, target: Path, profiles: Sequence[Path]
) -> MergeReport:
    note_worker(target)
    return merge_files(folders, recipe, base_name, target)


def endless(
    folders: Sequence[Path], recipe: Recipe, base_name: str, target: Path, profiles: Sequence[Path]
) -> MergeReport:
    note_worker(target)
    time.sleep(600)
    raise AssertionError("nobody waits that long")


def killed(
    folders: Sequence[Path], recipe: Recipe, base_name: str, target: Path, profiles: Sequence[Path]
) -> MergeReport:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def faulty(
    folders: Sequence[Path], recipe: Recipe, base_name: str, target: Path, profiles: Sequence[Path]
) -> MergeReport:
    raise ZeroDivisionError("planted")


def job(merge: Merge = merge_files, **limits: float) -> RayMerge:
    return RayMerge(MergeConfig(**limits), merge=merge)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def is_gone(process: int, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while psutil.pid_exists(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not psutil.pid_exists(process)


def test_a_worker_writes_the_bytes_that_this_process_would_and_is_used_once(
    folders: list[Path], tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    expected = merge_files(folders, RECIPE, tiny.BASE_NAME, here)
    report = job(noted)(folders, RECIPE, tiny.BASE_NAME, there)
    assert contents(there) == contents(here)
    assert (report.kept_energy, report.norm_ratio_ta) == (expected.kept_energy, expected.norm_ratio_ta)
    assert worker_of(there) != os.getpid()
    assert is_gone(worker_of(there))


def test_a_merge_error_in_the_worker_is_that_error_here(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(MergeError) as caught:
        job()(folders, replace(RECIPE, operator="absent"), tiny.BASE_NAME, tmp_path / "module")
    assert str(caught.value).startswith("Operator 'absent' is unknown")


def test_a_folder_that_cannot_be_read_may_be_back_at_the_next_tick(folders: list[Path], tmp_path: Path) -> None:
    shutil.rmtree(folders[1])
    with pytest.raises(MergeInterrupted, match=r"Merging 2 adapters by dare.*next tick tries it again"):
        job()(folders, RECIPE, tiny.BASE_NAME, tmp_path / "module")


def test_a_merge_that_needs_more_memory_fails_by_name_and_leaves_nothing(tmp_path: Path) -> None:
    size = 4096
    shapes = {"model.layers.0.self_attn.q_proj": (size, size)}
    folders = [tmp_path / str(seed) for seed in range(2)]
    for seed, folder in enumerate(folders):
        write_adapter(folder, tiny.random_update(seed, 128, shapes), tiny.BASE_NAME)
    recipe = replace(RECIPE, operator="ta", pruned=(), hyper_parameters=(), rank=128)
    with pytest.raises(MergeOutOfMemory, match=r"by ta into rank 128 needs more than 32 MiB.*merge\.memory_bytes"):
        job(memory_bytes=32 << 20)(folders, recipe, tiny.BASE_NAME, tmp_path / "module")
    assert not (tmp_path / "module").exists()
    assert job(memory_bytes=1 << 30)(folders, recipe, tiny.BASE_NAME, tmp_path / "module").kept_energy > 0.5


def test_a_merge_that_takes_too_long_fails_by_name_and_its_worker_is_gone(folders: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "module"
    with pytest.raises(MergeTimedOut, match=r"longer than 0\.5 s and was ended; raise merge\.timeout_seconds"):
        job(endless, timeout_seconds=0.5)(folders, RECIPE, tiny.BASE_NAME, target)
    assert not psutil.pid_exists(worker_of(target)), "when the caller goes on, nobody writes into its folder"


@pytest.mark.parametrize(("merge", "told"), [(killed, "lost its worker"), (faulty, r"ZeroDivisionError \(planted\)")])
def test_a_crash_may_be_tried_again(folders: list[Path], tmp_path: Path, merge: Merge, told: str) -> None:
    with pytest.raises(MergeInterrupted, match=f"{told}.*next tick tries it again"):
        job(merge)(folders, RECIPE, tiny.BASE_NAME, tmp_path / "module")


def test_the_last_of_a_recipe_s_crashes_is_final(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge_job, "MAX_CRASHES", 2)
    crashing, another = job(killed), replace(RECIPE, seed=4)
    for recipe, outcome in ((RECIPE, MergeInterrupted), (another, MergeInterrupted), (RECIPE, MergeKeepsCrashing)):
        with pytest.raises(outcome):
            crashing(folders, recipe, tiny.BASE_NAME, tmp_path / "module")


def test_a_limit_above_what_ray_has_is_named_and_never_the_recipe_s_fault(folders: list[Path], tmp_path: Path) -> None:
    too_much = job(memory_bytes=1 << 40)
    for _ in range(4):
        with pytest.raises(MergeInterrupted, match=r"1048576 MiB, which Ray's node never has; lower merge\.memory_byt"):
            too_much(folders, RECIPE, tiny.BASE_NAME, tmp_path / "module")


@ray.remote(num_cpus=NUM_CPUS)
def occupy() -> None:
    time.sleep(600)


def test_waiting_for_room_is_no_time_out(folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "START_SECONDS", 1.0)
    occupant = occupy.remote()
    ray.wait([occupant], timeout=3)
    with pytest.raises(MergeInterrupted, match="no free CPU or memory"):
        job(timeout_seconds=0.1)(folders, RECIPE, tiny.BASE_NAME, tmp_path / "module")
    ray.cancel(occupant, force=True)
