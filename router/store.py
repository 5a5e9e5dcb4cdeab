"""The store: a content-addressed folder of adapters, row files and modules. The one owner of files.

What is kept is immutable. It appears by one rename, so a reader sees all of it or nothing, and keeping the same
content again changes nothing.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from probe.records import MergeProbeError

DIGEST = re.compile(r"[0-9a-f]{64}")
MODULE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


class StoreError(MergeProbeError):
    """A name that cannot be a file of the store, or content that is not there to keep."""


class Store:
    """Folders `adapters/<revision>/`, `rows/<digest>.jsonl` and `modules/<name>/` under one root.

    Several processes may share a root, on one file system.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        for folder in ("adapters", "rows", "modules", "staging"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Give an empty folder, on the same file system as what is kept, and remove it at the end in any case."""
        folder = Path(tempfile.mkdtemp(dir=self.root / "staging"))
        try:
            yield folder
        finally:
            shutil.rmtree(folder)

    def adapter_path(self, revision: str) -> Path:
        """Return where a revision's folder is, or would be.

        Raises
        ------
        StoreError
            `revision` is no sha256 in hex.
        """
        return self.root / "adapters" / _checked(revision, DIGEST, "Revision", "64 lower-case hex digits")

    def rows_path(self, digest: str) -> Path:
        """Return where a row file is, or would be; raises as `adapter_path`."""
        return self.root / "rows" / f"{_checked(digest, DIGEST, 'Digest', '64 lower-case hex digits')}.jsonl"

    def module_path(self, name: str) -> Path:
        """Return where a module's folder is, or would be.

        Raises
        ------
        StoreError
            The name could leave the store, or is none that a module can have.
        """
        return self.root / "modules" / _checked(name, MODULE_NAME, "Module name", "letters, digits, '.', '_' and '-'")

    def keep_adapter(self, staged: Path, revision: str) -> Path:
        """Move a staged folder to its place, unless the revision is kept already; return the place.

        Raises
        ------
        StoreError
            `staged` is no folder, or `revision` no digest.
        """
        return _keep_folder(staged, self.adapter_path(revision))

    def keep_rows(self, staged: Path) -> str:
        """Move a staged file to its place and return its digest, the sha256 of its bytes.

        Raises
        ------
        StoreError
            `staged` is no file.
        """
        if not staged.is_file():
            raise StoreError(f"{staged.name!r} is no file, so it cannot be kept; stage it first.")
        with staged.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        staged.replace(self.rows_path(digest))
        return digest

    def keep_module(self, staged: Path, name: str) -> Path:
        """Move a staged folder to its place, unless the module is kept already; return the place.

        Raises
        ------
        StoreError
            `staged` is no folder, or the name is none that a module can have.
        """
        return _keep_folder(staged, self.module_path(name))


def _checked(name: str, pattern: re.Pattern[str], what: str, expected: str) -> str:
    if pattern.fullmatch(name) is None:
        raise StoreError(f"{what} {name!r} cannot name a file of the store; expected {expected}.")
    return name


def _keep_folder(staged: Path, place: Path) -> Path:
    if not staged.is_dir():
        raise StoreError(f"{staged.name!r} is no folder, so it cannot be kept; stage it first.")
    try:
        staged.rename(place)
    except OSError:
        # A folder of that name holds that content already. Any other failure is the caller's to see.
        if not place.is_dir():
            raise
    return place
