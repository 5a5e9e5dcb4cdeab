"""Signals as a Ray task, on a real private Ray: in another process, within its limits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from probe.adapter_io import AdapterError, write_adapter
from serve.limited.limits import SignalsConfig
from serve.limited.task import TaskOutOfMemory, TaskTimedOut, Workers
from serve.signals.evidence import Evidence, Subject
from serve.signals.job import RaySignals
from serve.signals.measuring import Place
from serve.signals.subjects import Piece, Work
from tests import tiny


@pytest.fixture(scope="module", autouse=True)
def _local_ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ray._private.ray_constants.ENABLE_RAY_CLUSTER", False)
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
        yield
        ray.shutdown()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    tiny.write_adapter(tmp_path / "adapters" / "r-a", seed=1)
    tiny.write_adapter(tmp_path / "adapters" / "r-b", seed=2)
    return Place(tmp_path / "base", tmp_path / "adapters", tmp_path / "rows", tmp_path / "evidence")


def subject(revision: str) -> Subject:
    return Subject(revision, None, "math", "base")


def job(place: Place, **limits: float) -> RaySignals:
    return RaySignals(place, SignalsConfig(**limits), Workers())  # type: ignore[arg-type]


def test_a_worker_leaves_its_results_where_the_controller_finds_them(place: Place) -> None:
    a, b = subject("r-a"), subject("r-b")
    job(place)(Work((Piece(a), Piece(a, (b,)))))
    assert Evidence(place.evidence).adapter(a) is not None
    assert Evidence(place.evidence).pair(b, a) is not None


def test_what_cannot_be_measured_is_that_error_here(place: Place) -> None:
    with pytest.raises(AdapterError):
        job(place)(Work((Piece(subject("r-absent")),)))


def test_limits_are_named_as_the_configuration_does(place: Place) -> None:
    work = Work((Piece(subject("r-a")),))
    with pytest.raises(TaskTimedOut, match=r"the signals of adapter r-a took longer.*raise signals\.timeout_seconds"):
        job(place, timeout_seconds=0.001)(work)
    size = 4096
    shapes = {"model.layers.0.self_attn.q_proj": (size, size)}
    write_adapter(place.adapters / "r-large", tiny.random_update(0, 512, shapes), tiny.BASE_NAME)
    with pytest.raises(TaskOutOfMemory, match=r"needs more than 1 MiB of memory; raise signals\.memory_bytes"):
        job(place, memory_bytes=1 << 20)(Work((Piece(subject("r-large")),)))
