from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from router.store import Store, StoreError

REVISION = "a" * 64


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def listing(store: Store) -> list[str]:
    return sorted(str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.is_file())


def stage(folder: Path, content: str = "weights") -> Path:
    staged = folder / "staged"
    staged.mkdir()
    (staged / "file").write_text(content)
    return staged


def test_staging_is_inside_the_root_and_is_removed(store: Store) -> None:
    with store.staging() as folder:
        assert folder.is_relative_to(store.root)
        stage(folder)
    assert not folder.exists()


def test_staging_is_removed_after_a_failure(store: Store) -> None:
    with pytest.raises(RuntimeError, match="power cut"), store.staging() as folder:  # noqa: PT012
        stage(folder)
        raise RuntimeError("power cut")
    assert not folder.exists()


def test_a_kept_adapter_is_at_its_path(store: Store) -> None:
    with store.staging() as folder:
        place = store.keep_adapter(stage(folder), REVISION)
    assert place == store.adapter_path(REVISION)
    assert listing(store) == [f"adapters/{REVISION}/file"]


def test_keeping_again_changes_nothing(store: Store) -> None:
    for content in ("first", "second"):
        with store.staging() as folder:
            store.keep_module(stage(folder, content), "merged-1")
    assert (store.module_path("merged-1") / "file").read_text() == "first"
    assert listing(store) == ["modules/merged-1/file"]


def test_rows_are_named_by_their_content(store: Store) -> None:
    digests = []
    for name in ("one", "two"):
        with store.staging() as folder:
            (folder / name).write_text('{"prompt": "p"}\n')
            digests.append(store.keep_rows(folder / name))
    assert digests == [hashlib.sha256(b'{"prompt": "p"}\n').hexdigest()] * 2
    assert listing(store) == [f"rows/{digests[0]}.jsonl"]
    assert store.rows_path(digests[0]).read_text() == '{"prompt": "p"}\n'


def test_of_two_that_keep_the_same_at_once_both_succeed(store: Store) -> None:
    def keep(_number: int) -> Path:
        with store.staging() as folder:
            return store.keep_adapter(stage(folder), REVISION)

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(keep, range(32))) == {store.adapter_path(REVISION)}
    assert listing(store) == [f"adapters/{REVISION}/file"]


def test_a_store_opens_where_one_was(store: Store) -> None:
    with store.staging() as folder:
        store.keep_adapter(stage(folder), REVISION)
    assert listing(Store(store.root)) == [f"adapters/{REVISION}/file"]


@pytest.mark.parametrize("name", ["..", ".", "", "../x", "a/b", "/etc", "a\0b", "a\n", "-x", "x" * 256, "ä"])
def test_a_name_that_could_leave_the_root_is_refused(store: Store, name: str) -> None:
    for path in (store.adapter_path, store.rows_path, store.module_path):
        with pytest.raises(StoreError, match="cannot name a file"):
            path(name)


@pytest.mark.parametrize("digest", ["A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_a_digest_that_is_none_is_refused(store: Store, digest: str) -> None:
    with pytest.raises(StoreError, match="64 lower-case hex digits"):
        store.adapter_path(digest)


def test_what_was_not_staged_cannot_be_kept(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is no folder"):
        store.keep_adapter(tmp_path / "absent", REVISION)
    with pytest.raises(StoreError, match="is no file"):
        store.keep_rows(tmp_path)
    assert listing(store) == []
