from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from huggingface_hub import constants

from router import sources
from router.sources import (
    ForbiddenSource,
    PickledWeights,
    SourceAbsent,
    SourceError,
    SourceFile,
    SourceTooLarge,
    fetch,
    fetch_file,
)
from tests.router.hub import serve_hub

CONFIG = b'{"r": 4}'
WEIGHTS = bytes(range(256)) * 8
FILES = {"adapter_config.json": CONFIG, "adapter_model.safetensors": WEIGHTS}
NUM_BYTES = len(CONFIG) + len(WEIGHTS)


def write(folder: Path, **more: bytes) -> Path:
    folder.mkdir(parents=True)
    for name, content in {**FILES, **more}.items():
        (folder / name).write_bytes(content)
    return folder


def read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "into"


# Local


@pytest.mark.parametrize("form", ["{}", "{}/", "file://{}", "file://localhost{}", "{}/../my%20adapter", "file://{}/."])
def test_a_local_folder_is_copied_without_its_other_files(root: Path, into: Path, form: str) -> None:
    folder = write(root / "my%20adapter", **{"README.md": b"", "optimizer.pt": b"", "new_embeddings.safetensors": b""})
    # In a URL a per cent sign is written as %25.
    fetch(form.format(str(folder).replace("%", "%25") if form.startswith("file:") else folder), into, (root,), 1 << 20)
    assert read(into) == FILES


def test_any_of_several_roots_will_do(root: Path, into: Path, tmp_path: Path) -> None:
    fetch(str(write(root / "a")), into, (tmp_path / "other", root), NUM_BYTES)
    assert read(into) == FILES


def test_links_that_stay_inside_the_roots_are_followed(root: Path, into: Path) -> None:
    write(root / "blobs")
    (root / "snapshot").mkdir()
    for name in FILES:
        (root / "snapshot" / name).symlink_to(Path("../blobs") / name)
    fetch(str(root / "snapshot"), into, (root,), NUM_BYTES)
    assert read(into) == FILES
    assert not any(path.is_symlink() for path in into.iterdir())


@pytest.mark.parametrize(
    "source",
    [
        "{outside}",
        "{root}/../outside",
        "{root}/link",
        "{root}/link/../outside",
        "file://{outside}",
        "file://{root}/%2e%2e/outside",
        "file://host{root}/a",
        "{root}-more",
        "relative/folder",
        "~",
        "",
        "{root}/a\0",
        "{root}/circle",
    ],
)
def test_a_local_source_outside_the_roots_is_forbidden(root: Path, into: Path, tmp_path: Path, source: str) -> None:
    outside = write(tmp_path / "outside")
    write(tmp_path / "root-more")
    (root / "link").symlink_to(outside)
    (root / "circle").symlink_to(root / "circle")
    for act in (fetch, fetch_file):
        with pytest.raises(ForbiddenSource):
            act(source.format(outside=outside, root=root), into, (root,), 1 << 20)
    assert not into.exists()


def test_without_roots_every_local_source_is_forbidden(root: Path, into: Path) -> None:
    with pytest.raises(ForbiddenSource, match="source root"):
        fetch(str(write(root / "a")), into, (), 1 << 20)


def test_whether_a_forbidden_path_exists_is_not_told(root: Path, into: Path, tmp_path: Path) -> None:
    messages = set()
    for name in ("outside", "missing"):
        if name == "outside":
            write(tmp_path / name)
        with pytest.raises(ForbiddenSource) as refusal:
            fetch(str(tmp_path / name), into, (root,), 1 << 20)
        messages.add(str(refusal.value).replace(name, "x"))
    assert len(messages) == 1


def test_a_file_in_the_folder_that_links_out_of_the_roots_is_forbidden(root: Path, into: Path, tmp_path: Path) -> None:
    folder = write(root / "a")
    secret = tmp_path / "secret"
    secret.write_bytes(b"{}")
    (folder / "adapter_config.json").unlink()
    (folder / "adapter_config.json").symlink_to(secret)
    with pytest.raises(ForbiddenSource):
        fetch(str(folder), into, (root,), 1 << 20)
    with pytest.raises(ForbiddenSource):
        fetch_file(str(folder / "adapter_config.json"), into, (root,), 1 << 20)


def test_a_link_put_in_place_after_the_check_is_not_followed(root: Path, tmp_path: Path) -> None:
    folder = write(root / "a")
    file = next(file for file in sources._origin(str(folder), (root,)).children() if file.name == "adapter_config.json")
    (folder / file.name).unlink()
    (folder / file.name).symlink_to(tmp_path)
    with pytest.raises(OSError, match="symbolic links"):
        file.open()


def test_a_pipe_is_no_file_and_is_not_waited_for(root: Path, into: Path) -> None:
    os.mkfifo(root / "rows.jsonl")
    with pytest.raises(SourceError, match="is no file"):
        fetch_file(str(root / "rows.jsonl"), into, (root,), 1 << 20)


@pytest.mark.parametrize("name", ["nowhere", "nowhere.jsonl"])
def test_what_is_not_there_is_told_from_what_cannot_be_read(root: Path, into: Path, name: str) -> None:
    with pytest.raises(SourceAbsent):
        fetch(str(root / name), into, (root,), 1 << 20)
    with pytest.raises(SourceAbsent):
        fetch_file(str(root / name), into, (root,), 1 << 20)


def test_pickled_weights_are_refused_unless_safetensors_are_there_too(root: Path, into: Path) -> None:
    folder = write(root / "a", **{"adapter_model.bin": b"pickle"})
    fetch(str(folder), into, (root,), 1 << 20)
    assert read(into) == FILES
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(PickledWeights, match=r"adapter_model\.bin, a pickle"):
        fetch(str(folder), into, (root,), 1 << 20)


@pytest.mark.parametrize("name", ["absent", "empty", "file", "x" * 300])
def test_a_place_without_an_adapter_is_an_error(root: Path, into: Path, name: str) -> None:
    (root / "empty").mkdir()
    (root / "file").write_bytes(b"")
    with pytest.raises(SourceError, match=name):
        fetch(str(root / name), into, (root,), 1 << 20)


# Size


def test_a_source_of_just_the_allowed_size_is_copied_and_one_byte_more_is_not(root: Path, into: Path) -> None:
    folder = write(root / "a")
    with pytest.raises(SourceTooLarge, match=f"holds {NUM_BYTES} bytes, but at most {NUM_BYTES - 1}"):
        fetch(str(folder), into, (root,), NUM_BYTES - 1)
    assert read(into) == {}
    fetch(str(folder), into, (root,), NUM_BYTES)
    assert read(into) == FILES


@pytest.mark.parametrize("announced", [None, 1])
def test_a_store_that_sends_more_than_it_announced_is_stopped(into: Path, announced: int | None) -> None:
    sent = io.BytesIO(bytes(10 * sources.CHUNK_BYTES))
    with pytest.raises(SourceTooLarge, match="sends more"):
        sources._copy("s3://bucket/a", {into: SourceFile("rows", announced, lambda: sent)}, sources.CHUNK_BYTES)
    assert into.stat().st_size <= 2 * sources.CHUNK_BYTES


# Schemes


@pytest.mark.parametrize(
    "source",
    [
        "http://host/a",
        "https://host/a",
        "ftp://host/a",
        "memory://a",
        "s3a://b/a",
        "://a",
        "s3://bucket/../a",
        "S3://b",
    ],
)
def test_other_schemes_are_forbidden(root: Path, into: Path, source: str) -> None:
    for act in (fetch, fetch_file):
        with pytest.raises(ForbiddenSource, match="is not served; expected"):
            act(source, into, (root,), 1 << 20)


@pytest.mark.parametrize(
    ("source", "extra"), [("s3://bucket/a", "mergeprobe[s3]"), ("gs://bucket/a", "mergeprobe[gcs]")]
)
def test_a_missing_client_library_is_named(
    root: Path, into: Path, source: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_library(*args: object, **options: object) -> None:
        raise ImportError("Install it")

    monkeypatch.setattr(fsspec, "filesystem", without_library)
    with pytest.raises(SourceError) as refusal:
        fetch(source, into, (root,), 1 << 20)
    assert f"pip install '{extra}'" in str(refusal.value)


# S3


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    moto = pytest.importorskip("moto.server", reason="moto, a pretended S3, is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed (mergeprobe[s3])")
    import boto3  # type: ignore[import-untyped]

    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="bank")
    for name, content in {**FILES, "optimizer.pt": b"", "deeper/adapter_config.json": b"{}"}.items():
        client.put_object(Bucket="bank", Key=f"adapters/math/{name}", Body=content)
    client.put_object(Bucket="bank", Key="pickled/adapter_model.bin", Body=b"")
    client.put_object(Bucket="bank", Key="pickled/adapter_config.json", Body=b"{}")
    yield "s3://bank"
    server.stop()


def test_s3_is_read_and_refused_like_a_folder(bucket: str, into: Path, tmp_path: Path) -> None:
    fetch(f"{bucket}/adapters/math", into, (), NUM_BYTES)
    assert read(into) == FILES
    fetch_file(f"{bucket}/adapters/math/adapter_config.json", tmp_path / "rows", (), len(CONFIG))
    assert (tmp_path / "rows").read_bytes() == CONFIG
    with pytest.raises(SourceTooLarge, match=f"holds {NUM_BYTES} bytes"):
        fetch(f"{bucket}/adapters/math/", into, (), NUM_BYTES - 1)
    with pytest.raises(PickledWeights, match=r"adapter_model\.bin"):
        fetch(f"{bucket}/pickled", into, (), 1 << 20)
    for act in (fetch, fetch_file):
        with pytest.raises(SourceError, match="cannot be read"):
            act(f"{bucket}/absent", into, (), 1 << 20)


def test_s3_content_that_changed_is_read_anew(bucket: str, into: Path) -> None:
    import boto3

    fetch(f"{bucket}/adapters/math", into, (), 1 << 20)
    boto3.client("s3").put_object(Bucket="bank", Key="adapters/math/adapter_config.json", Body=b'{"r": 16, "new": 1}')
    fetch(f"{bucket}/adapters/math", into, (), 1 << 20)
    assert read(into)["adapter_config.json"] == b'{"r": 16, "new": 1}'


# Hugging Face hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    nested = {f"checkpoints/last/{name}": content for name, content in FILES.items()}
    with serve_hub("owner/repo", {**FILES, **nested, "optimizer.pt": b"", "rows.jsonl": b"{}\n"}) as endpoint:
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield


@pytest.mark.parametrize(
    "source",
    [
        "hf://owner/repo",
        "huggingface://owner/repo/",
        "hf://owner/repo@v2",
        "hf://owner/repo/checkpoints/last",
        "hf://owner/repo@v2/checkpoints/last",
    ],
)
def test_a_hub_repository_is_copied_from_one_commit(hub: None, into: Path, source: str) -> None:
    # The hub in this test serves files by commit only, so a branch that was not pinned would not be found.
    fetch(source, into, (), NUM_BYTES)
    assert read(into) == FILES


def test_a_hub_repository_is_refused_like_a_folder(hub: None, into: Path) -> None:
    with pytest.raises(SourceTooLarge, match=f"holds {NUM_BYTES} bytes"):
        fetch("hf://owner/repo", into, (), NUM_BYTES - 1)
    for absent in ("hf://owner/none", "hf://owner/repo@none", "hf://owner", "hf://"):
        with pytest.raises(SourceError, match="cannot be read"):
            fetch(absent, into, (), 1 << 20)


def test_a_row_file_is_read_from_the_hub(hub: None, into: Path) -> None:
    fetch_file("hf://owner/repo/rows.jsonl", into, (), 100)
    assert into.read_bytes() == b"{}\n"
