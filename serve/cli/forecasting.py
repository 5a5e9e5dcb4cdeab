"""The command that forecasts an adapter still in training, against a running bank or a folder of adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from probe.rows import RowError, json_object
from serve.cli.profiling import Device, profiler
from serve.cli.running import LOCAL, AdminKey, AsJson, Url
from serve.client import BankClient

if TYPE_CHECKING:
    from probe.forecasting.seen_adapter import SeenAdapter
    from serve.early.answer import Basis

console = Console()

OFFLINE = "With --bank: "


def forecast(
    source: Annotated[str, typer.Argument(help="Bundle of MergeProbeCallback, or PEFT folder such as a checkpoint.")],
    bank: Annotated[Path | None, typer.Option(help="Folder of adapters; none: the running bank at --url.")] = None,
    rows: Annotated[Path | None, typer.Option(help="Calibration rows (JSONL); none: those in SOURCE, if any.")] = None,
    domain: Annotated[str | None, typer.Option(help="Domain, such as math; none: what the bundle says.")] = None,
    rho: Annotated[
        float | None, typer.Option(help="Share of training done, of a PEFT folder; none: trainer_state.json, else 1.")
    ] = None,
    base: Annotated[
        Path | None, typer.Option(help=f"{OFFLINE}folder of the base model; none: the weights alone, wider bounds.")
    ] = None,
    predictor: Annotated[
        Path | None, typer.Option(help=f"{OFFLINE}folder of a predictor; none: the shipped one.")
    ] = None,
    records: Annotated[
        Path | None, typer.Option(help=f"{OFFLINE}records that advice rests on; none: the shipped ones.")
    ] = None,
    device: Device = "cpu",
    cache: Annotated[
        Path | None, typer.Option(help=f"{OFFLINE}where profiles are kept; none: BANK/labels if it is there, else var.")
    ] = None,
    url: Url = LOCAL,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Forecast what an adapter still in training would keep beside each of a bank, and what it would be merged with.

    Nothing is registered. A running bank reads SOURCE itself, from one of its roots.

    Example: `mergeprobe forecast ./bundle --bank ./my-bank`, or `mergeprobe forecast ./bundle --json`
    """
    if bank is None:
        if base or predictor or records:
            raise typer.BadParameter("--base, --predictor and --records go with --bank; a running bank has its own")
        told = _asked(url, admin_key, source, rows, domain, rho)
    else:
        from probe.forecasting.seen_adapter import read_candidate  # imports torch, which `--help` must not wait for

        candidate = read_candidate(Path(source), rows, domain, rho)
        told = _against_folder(candidate, bank, _basis(predictor, records), base, device, cache)
    if as_json:
        typer.echo(json.dumps(told, indent=2))
    else:
        _print(told)


def _asked(
    url: str, admin_key: str | None, source: str, rows: Path | None, domain: str | None, rho: float | None
) -> dict[str, Any]:
    """Ask a running bank; rows are sent along, so that they may lie anywhere."""
    local = Path(source)
    body: dict[str, Any] = {"source": str(local.resolve()) if local.exists() else source, "domain": domain, "rho": rho}
    if rows is not None:
        lines = enumerate(_text(rows).splitlines(), start=1)
        body["calibration"] = [json_object(line, f"{rows} line {number}") for number, line in lines if line.strip()]
    with (
        BankClient(url, admin_key) as client,
        Console(stderr=True).status("the bank measures signals and forecasts"),
    ):
        return client.forecast({key: value for key, value in body.items() if value is not None})


def _text(rows: Path) -> str:
    try:
        return rows.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RowError(f"{rows} cannot be read as UTF-8 JSONL: {error}") from error


def _against_folder(
    candidate: SeenAdapter, bank: Path, basis: Basis, base: Path | None, device: str, cache: Path | None
) -> dict[str, Any]:
    from probe.forecasting.comparison import Comparer, compare
    from probe.forecasting.seen_adapter import read_known_bank
    from serve.early.answer import answer

    known, labels = read_known_bank(bank), bank / "labels"
    with profiler(cache or (labels if labels.is_dir() else Path("var")), base, device) as work:
        found = compare(
            candidate,
            known,
            work,
            calibrates=base is not None,
            on_progress=lambda doing, done, total: work.on_progress(doing, done / total),
        )
        by_revision, comparer = {one.revision: one for one in known}, Comparer(work, base is not None)
        return answer(candidate, found, basis, lambda one, other: comparer.pair(by_revision[one], by_revision[other]))


def _basis(predictor: Path | None, records: Path | None) -> Basis:
    from probe.bank.record_files import read_records
    from probe.forecasting.advice import effects_of, shipped_effects
    from router.bank_state import Settings
    from serve.early.answer import Basis
    from serve.forecasts import load_predictor

    effects = effects_of(read_records(records)) if records else shipped_effects()
    return Basis(load_predictor(str(predictor or "default")), Settings(), effects)


def _print(told: dict[str, Any]) -> None:
    name, rho = told["adapter"]["name"], told["adapter"]["rho"]
    table = Table("beside", f"{name} keeps", "it keeps", "merged by", "conflict in", "known by")
    for one in told["partners"]:
        table.add_row(
            one["adapter"],
            _ratio(one["retention"], one["lower_bound"]),
            _ratio(one["other_retention"], one["other_lower_bound"]),
            one["operator"],
            one["conflict"]["where"] or "-",
            one["signals"],
        )
    console.print(f"[bold]{name}[/] at {rho:.0%} of training, against {len(told['partners'])} adapters")
    console.print(table)
    for sentence in told["sentences"]:
        console.print(sentence, highlight=False)
    for other, why in told["left_out"].items():
        console.print(f"{other} was left out: {why}", highlight=False)


def _ratio(value: float, bound: float | None) -> str:
    return f"{value:.2f}" if bound is None else f"{value:.2f} (>= {bound:.2f})"
