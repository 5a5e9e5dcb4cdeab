"""The command that runs the planner on a simulated bank; it needs no server, no adapter and no engine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

from serve.cli.running import AsJson

if TYPE_CHECKING:
    from router.bank_fit import Fit
    from router.simulate import Tick
    from router.simulated_bank import BankModel

console = Console()

TRIAL_SHARE = 20
"""Adapters for each group that a tick measures, unless told: then some twenty ticks measure all that is worth it."""


class TraceName(StrEnum):
    """How requests are spread over adapters."""

    uniform = "uniform"
    zipf = "zipf"
    diurnal = "diurnal"
    bursts = "bursts"


def simulate(
    adapters: Annotated[int, typer.Option(min=1, help="Adapters in the simulated bank.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the bank, the traffic and the noise: same seed, same run.")] = 0,
    ticks: Annotated[int, typer.Option(min=1, help="Plans made, each with its measurements.")] = 10,
    trials: Annotated[int | None, typer.Option(min=0, help="Groups measured a tick; none: adapters / 20.")] = None,
    traffic: Annotated[TraceName, typer.Option(help="What the adapters' retention weighs.")] = TraceName.uniform,
    records: Annotated[Path | None, typer.Option(help="Measured records that the simulation is fitted to.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the planner on a simulated bank, and show what it serves and measures, tick by tick.

    Everything shown is simulated. With --records the retention of pairs is fitted to a measured bank, and the fit is
    shown.

    Example: `mergeprobe simulate --adapters 1000 --seed 0`
    """
    from router.bank_state import Settings
    from router.simulate import simulation  # imports scipy, which `--help` must not wait for
    from router.simulated_bank import BankModel

    fit = _fit(records) if records else None
    model = fit.model if fit else BankModel()
    num_trials = max(2, adapters // TRIAL_SHARE) if trials is None else trials
    settings = Settings(max_trials=num_trials, max_exploration=num_trials)
    run = simulation(adapters, model, settings, traffic.value, seed).run(ticks)
    shown = list(track(run, "simulating", total=ticks, console=Console(stderr=True)))
    if as_json:
        typer.echo(json.dumps(_as_json(model, fit, shown), indent=2))
        return
    if fit:
        console.print(_fit_table(fit))
    console.print(_tick_table(shown, f"simulated: {adapters} adapters, {traffic.value} traffic, seed {seed}"))
    console.print("All of this is simulated: it shows how the planner behaves, not what adapters keep.")


def _fit(records: Path) -> Fit:
    from probe.bank.record_files import read_records
    from router.bank_fit import fitted
    from router.simulated_bank import BankModel

    with Console(stderr=True).status("fitting the simulation to the records"):
        return fitted(read_records(records), BankModel())


def _as_json(model: BankModel, fit: Fit | None, ticks: Sequence[Tick]) -> dict[str, Any]:
    return {
        "simulated": True,
        "model": asdict(model),
        "fit": None if fit is None else {"error": fit.error, "rows": [asdict(row) for row in fit.rows]},
        "ticks": [asdict(tick) for tick in ticks],
    }


def _fit_table(fit: Fit) -> Table:
    from router.bank_fit import QUANTILES

    title = f"Retention of pairs, measured / simulated (quantiles differ by {fit.error:.2f}, root mean square)"
    table = Table("pairs", "operator", "labels", *(f"{share:.0%}" for share in QUANTILES), title=title)
    for row in fit.rows:
        pairs = "one domain" if row.within_domain else "two domains"
        cells = (f"{one:.2f} / {other:.2f}" for one, other in zip(row.measured, row.simulated, strict=True))
        table.add_row(pairs, f"{row.operator} ({row.norm})", str(row.num_labels), *cells)
    return table


def _tick_table(ticks: Sequence[Tick], title: str) -> Table:
    names = ("tick", "active", "cost", "merged", "macro", "worst", "score", "trials", "passed", "moved")
    table = Table(*names, title=title, box=SIMPLE_HEAD)
    for one in ticks:
        ratios = (f"{one.merged_share:.0%}", f"{one.macro:.3f}", f"{one.worst:.3f}", f"{one.score:.1f}")
        counts = map(str, (one.trials, one.passed, one.moved))
        table.add_row(str(one.number), str(one.active), f"{one.cost:.1f}", *ratios, *counts)
    return table
