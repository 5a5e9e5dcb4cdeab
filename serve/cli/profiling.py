"""What the commands that profile adapters share: their options, and a profiler that shows its progress."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from probe.profiling import Profiler

Base = Annotated[Path | None, typer.Option(help="Folder of the base model; none: the embedded one.")]
Device = Annotated[str, typer.Option(help="Torch device, such as cpu or cuda.")]
Cache = Annotated[Path, typer.Option(help="Where profiles, and the embedded base, are kept.")]


@contextmanager
def profiler(cache: Path, base: Path | None, device: str) -> Iterator[Profiler]:
    """Yield a profiler whose progress shows on the standard error stream, so that `--json` stays clean."""
    from probe.embedded import export_embedded_base  # imports torch, which `--help` must not wait for
    from probe.profile_store import ProfileStore
    from probe.profiling import Profiler

    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(doing: str, share: float) -> None:
            if doing not in tasks:
                tasks[doing] = bars.add_task(doing, total=1.0)
            bars.update(tasks[doing], completed=share)

        store = ProfileStore(cache / "profiles")
        yield Profiler(store, lambda: base or export_embedded_base(cache / "base"), device, show)
