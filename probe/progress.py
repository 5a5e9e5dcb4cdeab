"""What long work tells of itself; how it is shown is the caller's matter."""

from __future__ import annotations

from collections.abc import Callable

OnProgress = Callable[[str, int, int], None]
"""Told what is done, how much of it is, and how much there is in all."""


def silent(_doing: str, _done: int, _total: int) -> None:
    """Show nothing."""
