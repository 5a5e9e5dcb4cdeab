"""The command that fits a predictor to measured records; it works on files, needs no server and no adapter."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from serve.cli.progress import progress
from serve.cli.running import AsJson

if TYPE_CHECKING:
    from probe.bank.records import Records
    from probe.predictors.card import Card, ViewMetrics
    from probe.predictors.options import FitOptions
    from probe.predictors.predictor import Predictor

console = Console()

SHOWN_SIGNALS = ", all signals"
"""Of the views; JSON has them all."""


def fit(
    records: Annotated[Path | None, typer.Argument(help="Folder of records (mergeprobe bank label --out).")] = None,
    from_registry: Annotated[
        str | None, typer.Option(help="URL of a bank's registry, to learn from what it has verified instead.")
    ] = None,
    state: Annotated[Path, typer.Option(help="State folder of that bank, for its signals.")] = Path("var"),
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the predictor; none: RECORDS-predictor, or `predictor` in the state folder."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of folds, draws and training: the same seed, the same predictor.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Of the trees.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Fit a predictor to the records of a bank, and print how well it forecasts adapters that it has not seen.

    Example: `mergeprobe fit ./records --out ./predictor`

    Example: `mergeprobe fit --from-registry sqlite:///var/registry.db`
    """
    # Imports torch, which `--help` must not wait for.
    from probe.predictors.options import FitOptions
    from probe.predictors.predictor import write_predictor

    measured, beside = _source(records, from_registry, state)
    folder = out or beside
    predictor = _fitted(measured, FitOptions(seed=seed, num_threads=threads))
    write_predictor(folder, predictor)
    if as_json:
        typer.echo(json.dumps(predictor.card.as_json() | {"folder": str(folder)}, indent=2))
        return
    _print_card(predictor.card)
    console.print(f"The predictor is in {folder}.", highlight=False)


def _source(records: Path | None, registry: str | None, state: Path) -> tuple[Records, Path]:
    """Return what was measured, and where its predictor goes unless told otherwise."""
    from probe.bank.record_files import read_records
    from serve.registry_records import registry_records

    if records is not None and registry is None:
        return read_records(records), records.resolve().with_name(f"{records.resolve().name}-predictor")
    if registry is not None and records is None:
        return registry_records(registry, state / "signals"), state / "predictor"
    raise typer.BadParameter("name a folder of records or --from-registry, one of the two")


def _fitted(records: Records, options: FitOptions) -> Predictor:
    from probe.predictors.fitting import fit as fit_predictor

    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    with progress() as show:
        return fit_predictor(records, options, show, today)


def _print_card(card: Card) -> None:
    facts = Table("fitted on", card.bank)
    facts.add_row("base model", card.base_model)
    facts.add_row("records", f"sha256 {card.records_hash[:16]}")
    facts.add_row("adapters", str(card.num_adapters))
    facts.add_row("labels of pairs", str(card.num_pair_labels))
    facts.add_row("merges of three or more", str(card.num_set_merges))
    for reason, count in card.left_out.items():
        facts.add_row("left out", f"{count} {reason}")
    if card.gain is not None:
        error, plain = card.gain.mean_absolute_error, card.gain.error_of_the_mean
        facts.add_row("error of the gain", f"{error:.3f} (of the mean gain: {plain:.3f})")
    console.print(facts)
    for kind in ("pairs", "sets"):
        measured = Table(f"{kind}, not seen", "labels", "error", "rank", "AUROC", "covers", "bounded")
        for one in card.metrics:
            if one.kind == kind and one.view.endswith(SHOWN_SIGNALS):
                measured.add_row(one.view.removesuffix(SHOWN_SIGNALS), *_figures(one))
        console.print(measured)
    console.print("error: mean, of Ret; rank: Spearman's correlation; AUROC: of safe merges.", highlight=False)
    console.print(
        f"Bounds are to cover {1 - card.options['alpha']:.0%}. Forecasts with fewer signals: --json.", highlight=False
    )


def _figures(one: ViewMetrics) -> tuple[str, ...]:
    return (
        str(one.num_labels),
        f"{one.mean_absolute_error:.3f}",
        *(_figure(value) for value in (one.spearman, one.auroc, one.coverage)),
        f"{one.bounded_share:.0%}",
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
