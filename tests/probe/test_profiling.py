import shutil
from pathlib import Path

import pytest

from probe.factors import FactorError
from probe.features import adapter_features
from probe.profile_store import ProfileStore
from probe.profiles import profile_of
from probe.profiling import Profiler
from probe.rows import Row, write_rows
from probe.telemetry.bundle import BundleError
from probe.telemetry.callback import MergeProbeCallback
from tests import tiny
from tests.probe.test_reference import write_character_base
from tests.tiny_training import tiny_lora, trainer_of


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_character_base(tmp_path_factory.mktemp("base"))


def rows(folder: Path, answer: str = "3") -> Path:
    write_rows(folder / f"{answer}.jsonl", [Row(f"<|im_start|>{n}", answer, "forced") for n in range(5)])
    return folder / f"{answer}.jsonl"


def no_base() -> Path:
    raise AssertionError("weights alone need no base model")


def test_weights_alone_need_no_base_and_know_the_declared_scale(tmp_path: Path) -> None:
    adapter = tiny.write_adapter(tmp_path / "a", rank=4, lora_alpha=8)
    profile = Profiler(ProfileStore(tmp_path / "kept"), no_base).profile(adapter)
    assert profile.calibration is None
    assert (profile.metadata.rank, profile.metadata.scaling) == (4, 2.0)


def test_a_calibrated_profile_is_measured_once_for_its_rows_and_content(tmp_path: Path, base: Path) -> None:
    adapter, told = tiny.write_adapter(tmp_path / "a"), []
    profiler = Profiler(ProfileStore(tmp_path / "kept"), lambda: base, on_progress=lambda *it: told.append(it))
    first = profiler.profile(adapter, rows(tmp_path))
    assert first.calibration is not None
    assert first.num_layers == 2
    assert ("calibrating the base", 1.0) in told
    assert told[0] == ("calibrating a", 0.0)
    assert told[-1] == ("calibrating a", 1.0)
    told.clear()
    assert profiler.profile(adapter, rows(tmp_path)).calibration is not None
    assert told == []
    profiler.profile(adapter, rows(tmp_path, answer="5"))
    profiler.profile(tiny.write_adapter(tmp_path / "b", seed=1), rows(tmp_path))
    assert {doing for doing, _ in told} == {"calibrating the base", "calibrating a", "calibrating b"}
    assert len(list((tmp_path / "kept").iterdir())) == 3


def test_what_adapters_do_on_each_others_rows_is_directional(tmp_path: Path, base: Path) -> None:
    weak = tiny.write_adapter(tmp_path / "weak", seed=0, lora_alpha=0.01)
    strong = tiny.write_adapter(tmp_path / "strong", seed=1, lora_alpha=4)
    profiler = Profiler(ProfileStore(tmp_path / "kept"), lambda: base)
    there = profiler.cross_tasks(weak, {"strong": strong}, rows(tmp_path))["strong"]
    back = profiler.cross_tasks(strong, {"weak": weak}, rows(tmp_path))["weak"]
    assert there.shift.num_rows == there.loss.num_rows == 5
    assert min(there.shift.of_own.values()) > 1 > max(back.shift.of_own.values())
    assert abs(there.loss.of_sum - there.loss.of_own) > 10 * abs(back.loss.of_sum - back.loss.of_own)
    assert there.loss.of_base == back.loss.of_base


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle as the callback writes it, of a tiny model trained for 60 steps."""
    out = tmp_path_factory.mktemp("bundle")
    rows = [Row(f"<|im_start|>{n}", "3", "forced") for n in range(4)]
    callback = MergeProbeCallback(out, domain="math", response_tokens=2, calibration_rows=rows)
    trainer_of(tiny_lora(), tmp_path_factory.mktemp("trainer"), callback, max_steps=60).train()
    return out


def test_a_bundle_becomes_a_trajectory_that_features_read(bundle: Path, tmp_path: Path) -> None:
    trajectory = Profiler(ProfileStore(tmp_path), no_base).trajectory(bundle)
    assert trajectory.fractions == (0.02, 0.05, 0.1)
    assert {profile.metadata.domain for profile in trajectory.profiles} == {"math"}
    assert len({profile.metadata.loss_slope for profile in trajectory.profiles}) == 3, "each knows its own past only"
    features = adapter_features(trajectory)
    assert "energy/all/slope of mean" not in features.missing
    assert "num_steps/all/value" not in features.missing


def test_a_bundle_without_rows_cannot_be_calibrated(bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    (copy / "calibration.jsonl").unlink()
    with pytest.raises(BundleError, match="calibration_rows"):
        Profiler(ProfileStore(tmp_path), no_base).trajectory(copy, calibrate=True)


@pytest.mark.parametrize("spoilt", [float("nan"), float("inf")])
def test_a_diverged_update_has_no_profile(spoilt: float) -> None:
    update = tiny.random_update(0, 2, {"m": (8, 6)})
    update.factors["m"].B[0, 0] = spoilt
    with pytest.raises(FactorError, match="NaN or infinite"):
        profile_of(update)
