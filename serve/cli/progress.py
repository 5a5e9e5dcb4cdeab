"""How far long work is, on the standard error stream, so that JSON stays clean: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from probe.progress import OnProgress

SECONDS_BETWEEN_LINES = 30.0


@contextmanager
def progress(errors: Console | None = None, clock: Callable[[], float] = time.monotonic) -> Iterator[OnProgress]:
    """Yield what shows progress."""
    console = errors or Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console, clock)
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def show(doing: str, done: int, total: int) -> None:
            if doing not in tasks:
                tasks[doing] = bars.add_task(doing, total=total, completed=done)
            bars.update(tasks[doing], total=total, completed=done)

        yield show


def _lines(console: Console, clock: Callable[[], float]) -> OnProgress:
    """Return what prints a line now and then, with the time left as far as speed so far tells."""
    begun: dict[str, tuple[float, int]] = {}
    latest: dict[str, float] = {}

    def show(doing: str, done: int, total: int) -> None:
        now = clock()
        started, first = begun.setdefault(doing, (now, done))
        if now - latest.get(doing, -SECONDS_BETWEEN_LINES) < SECONDS_BETWEEN_LINES and done < total:
            return
        latest[doing] = now
        left = f", {(now - started) / (done - first) * (total - done) / 60:.0f} min left" if done > first else ""
        console.print(f"{doing}: {done} of {total}{left}", highlight=False, markup=False)

    return show
