"""Claims: which process builds which adapter, when several share a folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def claimed(out: Path, name: str) -> Iterator[bool]:
    """Yield whether this process may build the adapter `name` while the block runs.

    The claim is a lock of the operating system on ``.NAME.lock``, which holds the owner's process id for people to
    read. It ends with the process, however that ends, so a killed build never blocks the next one.
    """
    path = out / f".{name}.lock"
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        if not _is_still_named(lock.fileno(), path):
            yield False
            return
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        try:
            yield True
        finally:
            path.unlink(missing_ok=True)


def _is_still_named(descriptor: int, path: Path) -> bool:
    """Say whether the locked file is the one that others find: its last owner may have removed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
