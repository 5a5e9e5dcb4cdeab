"""A file that only ever grows: one JSON object a line, on disk before the next piece of work begins."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from probe.records import MergeProbeError


class JournalError(MergeProbeError):
    """A journal holds a damaged line that is not its last one, or nothing where something must be."""


class Journal:
    """Entries that survive the end of the process at any time; one process writes, any may read.

    A process that is killed while it writes leaves a torn last line. Opening drops it: that piece of work is done
    again.

    Raises
    ------
    JournalError
        A line before the last one is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        content = path.read_bytes()
        if not content.endswith(b"\n"):
            os.truncate(path, content.rfind(b"\n") + 1)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return entries_of(self._path)

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write an entry, and return when it is on disk."""
        with self._path.open("a", encoding="utf-8") as out:
            out.write(json.dumps(entry) + "\n")
            out.flush()
            os.fsync(out.fileno())


def entries_of(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of a journal, and change nothing.

    Raises
    ------
    JournalError
        A line is damaged.
    """
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise JournalError(
                    f"{path} line {number} is damaged ({error}); remove that line, and it is measured again."
                ) from error
