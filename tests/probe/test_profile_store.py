import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from probe.profile_store import ProfileStore, read_profile, write_profile
from probe.profiles import AdapterProfile, Metadata, profile_of
from tests import tiny
from tests.probe.calibrations import random_calibration


def profile(seed: int = 0) -> AdapterProfile:
    return profile_of(tiny.random_update(seed), metadata=Metadata("math", 500, rank=4))


def calibrated() -> AdapterProfile:
    return dataclasses.replace(profile(), calibration=random_calibration(0))


def plain(value: Any) -> Any:
    """Turn a record into nested dictionaries that compare by content."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return value.tolist() if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize("make", [profile, calibrated])
def test_what_is_written_reads_back(make: Any, tmp_path: Path) -> None:
    write_profile(tmp_path / "p.safetensors", make())
    assert plain(read_profile(tmp_path / "p.safetensors")) == plain(make())
    assert [path.name for path in tmp_path.iterdir()] == ["p.safetensors"]


def test_a_profile_is_made_once_for_each_key(tmp_path: Path) -> None:
    store, made = ProfileStore(tmp_path / "new"), []

    def make() -> AdapterProfile:
        made.append(1)
        return profile()

    first, second = store.get("revision", make), store.get("revision", make)
    assert len(made) == 1
    assert plain(first) == plain(second)
    store.get("another", make)
    assert len(made) == 2


@pytest.mark.parametrize("damage", [b"", b"rubbish", None])
def test_a_damaged_file_is_made_again(damage: bytes | None, tmp_path: Path) -> None:
    store, path = ProfileStore(tmp_path), tmp_path / "revision.safetensors"
    store.get("revision", profile)
    path.write_bytes(path.read_bytes()[:200] if damage is None else damage)
    assert read_profile(path) is None
    assert plain(store.get("revision", profile)) == plain(profile())
    assert read_profile(path) is not None


def test_a_file_of_another_schema_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_profile(tmp_path / "p.safetensors", profile())
    monkeypatch.setattr("probe.profile_store.SCHEMA_VERSION", 2)
    assert read_profile(tmp_path / "p.safetensors") is None
