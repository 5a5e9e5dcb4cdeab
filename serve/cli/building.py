"""Commands that build a bank of adapters; they work on files and need no server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

if TYPE_CHECKING:
    from probe.bank.build import BuiltAdapter
    from probe.bank.progress import OnProgress
    from probe.bank.progress import Progress as BuildProgress

app = typer.Typer(help="Build a bank of adapters with measured gains.", no_args_is_help=True)
console = Console()


@app.callback()
def bank() -> None:
    """Build a bank of adapters, measure what merging keeps of each, and report it."""


@app.command()
def build(
    out: Annotated[Path, typer.Option(help="Folder for the adapters, one folder each.")],
    preset: Annotated[str, typer.Option(help="Which bank: a name, or 'list' to see them.")] = "demo",
    base: Annotated[Path | None, typer.Option(help="Folder of the base model; none: the embedded one.")] = None,
    device: Annotated[str, typer.Option(help="Torch device, such as cpu or cuda.")] = "cpu",
    cache: Annotated[Path, typer.Option(help="Where the embedded base is unpacked.")] = Path("var/base"),
    jobs: Annotated[int, typer.Option(min=1, help="Processes that build side by side, on the CPU threads of one.")] = 1,
    only: Annotated[list[str] | None, typer.Option(help="Build this adapter; may be given again. None: all.")] = None,
) -> None:
    """Train and score the adapters of a preset; a build that was stopped goes on where it was.

    Several of these commands may share one OUT: each builds what no other has begun.

    Example: `mergeprobe bank build --preset demo --out ./my-bank`
    """
    from probe.bank.presets import PRESETS  # imports torch, which `--help` must not wait for
    from probe.bank.workers import build_in_processes
    from probe.embedded import export_embedded_base

    if preset == "list":
        console.print("\n".join(sorted(PRESETS)))
        return
    if preset not in PRESETS:
        raise typer.BadParameter(f"there is no preset {preset!r}; there are: {', '.join(sorted(PRESETS))}")
    folder = base or export_embedded_base(cache)
    with Progress(TextColumn("{task.description}"), BarColumn(), console=console) as bars:
        built = build_in_processes(PRESETS[preset], out, folder, jobs, device, _shown_in(bars), only)
    _print_built(built)


def _shown_in(bars: Progress) -> OnProgress:
    """Return what shows a bar for each adapter, and the time left for all of them."""
    rows: dict[str, TaskID] = {}

    def show(progress: BuildProgress) -> None:
        if progress.adapter not in rows:
            rows[progress.adapter] = bars.add_task(progress.adapter, total=1.0)
        left = "" if progress.seconds_left is None else f", bank in {progress.seconds_left / 60:.0f} min"
        description = f"{progress.adapter}: {progress.activity}{left}"
        bars.update(rows[progress.adapter], description=description, completed=progress.share)

    return show


def _print_built(built: Sequence[BuiltAdapter]) -> None:
    table = Table("adapter", "domain", "base", "single", "gain", "ships")
    for adapter in built:
        scores, failures = adapter.scores, adapter.gate_failures
        table.add_row(
            adapter.recipe.name,
            adapter.recipe.domain,
            f"{scores.base.value:.2f} ± {scores.base.standard_error:.2f}",
            f"{scores.single.value:.2f} ± {scores.single.standard_error:.2f}",
            f"{scores.gain.value:.2f} ± {scores.gain.standard_error:.2f}",
            "yes" if not failures else "no: " + "; ".join(failures),
        )
    console.print(table)
