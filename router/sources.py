"""Sources: where adapters and row files are copied from, and what is refused before and while copying.

A source is a local path or `file://` URL inside a configured root, `s3://`, `gs://`, or
`hf://owner/repo[@revision][/folder]` (also spelt `huggingface://`). Nothing else: a server that fetched any URL
would fetch for strangers what only it can reach.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import unquote

import fsspec
from huggingface_hub import HfApi

from probe.records import MergeProbeError

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
"""All that an adapter is. Others are left behind: an engine could read a file that no check has seen."""

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
CHUNK_BYTES = 1 << 20
BLOCK_BYTES = 16 << 20
"""Bytes that one request to a remote store asks for."""

REMOTE = {"s3": "s3", "gs": "gs", "hf": "hf", "huggingface": "hf"}
"""Scheme of a source -> fsspec's name for it."""

EXTRAS = {"s3": "mergeprobe[s3]", "gs": "mergeprobe[gcs]", "hf": "huggingface_hub"}
"""fsspec's name -> what to install for it."""


class SourceError(MergeProbeError):
    """A source that cannot be read: absent, unreachable, or its client library is missing."""


class ForbiddenSource(SourceError):
    """A source outside the configured roots, or of a scheme that is not served."""


class SourceAbsent(SourceError):
    """A source that is not there; one that cannot be reached is no such."""


class SourceTooLarge(SourceError):
    """A source that holds more bytes than allowed."""


class PickledWeights(SourceError):
    """Weights that only unpickling could read, which can run any code."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source; `num_bytes` is None where the store does not say."""

    name: str
    num_bytes: int | None
    open: Callable[[], BinaryIO]


class Origin(Protocol):
    """A place that a source names, either a folder or a file."""

    def children(self) -> list[SourceFile]:
        """Return the files directly in the folder."""

    def itself(self) -> SourceFile:
        """Return the file."""


def fetch(source: str, into: Path, roots: tuple[Path, ...], max_bytes: int) -> None:
    """Copy an adapter's config and weights into a folder, which is made where absent.

    Parameters
    ----------
    roots
        The only folders that local sources may be in; symbolic links are followed first.
    max_bytes
        Limit of the sum of all files copied.

    Raises
    ------
    ForbiddenSource
        The source, or a link in it, leads out of the roots, or its scheme is not served.
    SourceTooLarge
        The files hold more than `max_bytes`.
    PickledWeights
        There are pickled weights and no safetensors.
    SourceError
        It cannot be read, or holds no file of an adapter.
    """
    with _reading(source):
        files = _origin(source, roots).children()
        _check_kind(source, {file.name for file in files})
        into.mkdir(parents=True, exist_ok=True)
        _copy(source, {into / file.name: file for file in files if file.name in ADAPTER_FILES}, max_bytes)


def fetch_file(source: str, target: Path, roots: tuple[Path, ...], max_bytes: int) -> None:
    """Copy one file; parameters and errors as in `fetch`."""
    with _reading(source):
        _copy(source, {target: _origin(source, roots).itself()}, max_bytes)


def _check_kind(source: str, names: set[str]) -> None:
    if not names & set(ADAPTER_FILES):
        raise SourceError(
            f"Source {source!r} holds none of {', '.join(ADAPTER_FILES)}; name the folder that PEFT's "
            "save_pretrained wrote."
        )
    pickles = sorted(name for name in names if name.endswith(PICKLE_SUFFIXES))
    if pickles and "adapter_model.safetensors" not in names:
        raise PickledWeights(
            f"Source {source!r} holds {pickles[0]}, a pickle, which can run code, and no adapter_model.safetensors; "
            "save the adapter with safe_serialization=True."
        )


def _copy(source: str, files: Mapping[Path, SourceFile], max_bytes: int) -> None:
    """Copy each file to its target, as long as the limit for all of them lasts."""
    announced = sum(file.num_bytes or 0 for file in files.values())
    if announced > max_bytes:
        raise SourceTooLarge(f"Source {source!r} holds {announced} bytes, but at most {max_bytes} are allowed.")
    num_left = max_bytes
    for target, file in files.items():
        num_left -= _copy_file(file, target, num_left)
        # A store can announce one size and send another, and a file can grow.
        if num_left < 0:
            raise SourceTooLarge(f"Source {source!r} sends more than the {max_bytes} bytes that are allowed.")


def _copy_file(file: SourceFile, target: Path, max_bytes: int) -> int:
    """Copy until the end, or until more than `max_bytes` came; return how many came."""
    num_copied = 0
    with file.open() as reader, target.open("wb") as writer:
        while num_copied <= max_bytes and (chunk := reader.read(CHUNK_BYTES)):
            writer.write(chunk)
            num_copied += len(chunk)
    return num_copied


@contextmanager
def _reading(source: str) -> Iterator[None]:
    """Turn whatever a client library raises into a SourceError, a SourceAbsent where that is what it says."""
    try:
        yield
    except SourceError:
        raise
    except Exception as error:  # the clients of S3, Google and the hub share no base class
        kind = SourceAbsent if isinstance(error, FileNotFoundError) else SourceError
        raise kind(
            f"Source {source!r} cannot be read ({type(error).__name__}: {error}); check its spelling, that it "
            "exists, and the server's credentials for it."
        ) from error


def _origin(source: str, roots: tuple[Path, ...]) -> Origin:
    scheme, separator, rest = source.partition("://")
    if not separator:
        return LocalOrigin(_inside(Path(source), roots, source), roots, source)
    if scheme == "file":
        host, _, path = rest.partition("/")
        if host in ("", "localhost"):
            return LocalOrigin(_inside(Path("/" + unquote(path)), roots, source), roots, source)
    elif scheme in REMOTE and ".." not in rest.split("/"):
        return _remote(REMOTE[scheme], rest.rstrip("/"))
    raise ForbiddenSource(
        f"Source {source!r} is not served; expected a local path, file:///path, s3://bucket/folder, gs://bucket/folder "
        "or hf://owner/repo, without '..'."
    )


def _inside(path: Path, roots: tuple[Path, ...], source: str) -> Path:
    """Return the path with every link followed, if it is in a root; whether it exists elsewhere is not told."""
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError, ValueError):  # too long, a circle of links, a NUL
        resolved = None
    if resolved is None or not any(resolved.is_relative_to(root.resolve()) for root in roots):
        raise ForbiddenSource(
            f"Source {source!r} leads out of the folders that this server may read; move it there, or start the "
            "server with its folder as a source root."
        )
    return resolved


@dataclass(frozen=True, slots=True)
class LocalOrigin:
    """A folder or file inside the roots; `path` has no links left in it."""

    path: Path
    roots: tuple[Path, ...]
    source: str

    def children(self) -> list[SourceFile]:
        """Return the files directly in the folder, links followed if they stay inside the roots."""
        inside = {entry.name: _inside(entry, self.roots, self.source) for entry in self.path.iterdir()}
        return [_local_file(name, path) for name, path in inside.items() if path.is_file()]

    def itself(self) -> SourceFile:
        """Return the file."""
        if not self.path.is_file():
            raise SourceAbsent(f"Source {self.source!r} is no file; check its spelling.")
        return _local_file(self.path.name, self.path)


def _local_file(name: str, path: Path) -> SourceFile:
    def open_unless_replaced() -> BinaryIO:
        # The path had no link when it was checked; one that was put there since is not followed.
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb")

    return SourceFile(name, path.stat().st_size, open_unless_replaced)


@dataclass(frozen=True, slots=True)
class RemoteOrigin:
    """A folder or file of a remote store, as fsspec sees it."""

    files: Any
    path: str

    def children(self) -> list[SourceFile]:
        """Return the files directly in the folder."""
        return [self._file(info) for info in self.files.ls(self.path, detail=True) if info["type"] == "file"]

    def itself(self) -> SourceFile:
        """Return the file."""
        return self._file(self.files.info(self.path))

    def _file(self, info: dict[str, Any]) -> SourceFile:
        path = info["name"]
        opened = partial(self.files.open, path, "rb", block_size=BLOCK_BYTES)
        return SourceFile(path.rsplit("/", 1)[-1], info["size"], opened)


def _remote(store: str, path: str) -> RemoteOrigin:
    try:
        # No cache of listings: the same place may hold a new revision tomorrow.
        files = fsspec.filesystem(store, skip_instance_cache=True, use_listings_cache=False)
    except ImportError as error:
        raise SourceError(f"{store}:// sources need a client library: pip install '{EXTRAS[store]}'.") from error
    return RemoteOrigin(files, _pin(files, path) if store == "hf" else path)


def _pin(hub: Any, path: str) -> str:
    """Replace a branch by its commit, so that all files are of one commit even if somebody pushes meanwhile."""
    place = hub.resolve_path(path)
    commit = HfApi().repo_info(place.repo_id, repo_type=place.repo_type, revision=place.revision).sha
    return str(replace(place, revision=commit, _raw_revision=None).unresolve())
