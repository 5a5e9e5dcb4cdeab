"""The command that explains a pair of adapters; it works on files and needs neither Ray nor vLLM."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from probe.rows import CALIBRATION_FILE
from serve.cli.profiling import Base, Cache, Device, profiler
from serve.cli.running import AsJson

if TYPE_CHECKING:
    from probe.explanation import Finding
    from probe.signals import Pair, PairSignal

console = Console()

Rows = tuple[Path, Path]


def signals(
    first: Annotated[Path, typer.Argument(help="PEFT folder of one adapter.")],
    second: Annotated[Path, typer.Argument(help="PEFT folder of the other.")],
    calibrate: Annotated[
        bool, typer.Option(help=f"Run the rows beside each adapter, {CALIBRATION_FILE}, through the base model.")
    ] = False,
    rows: Annotated[Rows | None, typer.Option(help="Calibration rows (JSONL) of both, from elsewhere.")] = None,
    base: Base = None,
    device: Device = "cpu",
    cache: Cache = Path("var"),
    as_json: AsJson = False,
) -> None:
    """Explain what two adapters do to each other: which mechanism of conflict, in which layers, by which numbers.

    Weights alone take a second. With --calibrate, or --rows, the Fisher, gradient, activation and loss signals are
    measured too: a forward and backward of each adapter's rows, and some of them again beside the other adapter.

    Example: `mergeprobe signals ./math ./code`, or `mergeprobe signals ./math ./code --calibrate --json`
    """
    beside = (first / CALIBRATION_FILE, second / CALIBRATION_FILE) if calibrate else None
    forth, back = _compare((first, second), rows or beside, base, device, cache)
    if as_json:
        typer.echo(json.dumps(_as_json(first.name, second.name, forth, back), indent=2))
    else:
        _print_findings(first.name, second.name, forth, back)
        console.print(_table(first.name, second.name, forth, back))
        console.print("This says what to look at, not what a merge keeps: that is measured on the merged module.")


def _compare(adapters: Rows, rows: Rows | None, base: Path | None, device: str, cache: Path) -> tuple[Pair, Pair]:
    """Return both directions of the pair."""
    from probe.signals import Pair  # imports torch, which `--help` must not wait for

    first, second = adapters
    with profiler(cache, base, device) as work:
        if rows is None:
            one, other = work.profile(first), work.profile(second)
            return Pair(one, other), Pair(other, one)
        one, other = work.profile(first, rows[0]), work.profile(second, rows[1])
        forth = work.cross_tasks(second, {"first": first}, rows[1])["first"]
        back = work.cross_tasks(first, {"second": second}, rows[0])["second"]
        return Pair(one, other, forth), Pair(other, one, back)


def _as_json(first: str, second: str, forth: Pair, back: Pair) -> dict[str, Any]:
    from probe.explanation import explain
    from probe.features import SCHEMA_VERSION
    from probe.signals import PAIR_SIGNALS

    return {
        "first": first,
        "second": second,
        "schema_version": SCHEMA_VERSION,
        "findings": {way: [asdict(one) for one in explain(pair)] for way, pair in (("forth", forth), ("back", back))},
        "signals": {key: _numbers(row, forth, back) for key, row in PAIR_SIGNALS.items()},
    }


def _numbers(row: PairSignal, forth: Pair, back: Pair) -> dict[str, Any]:
    """Return a signal's values by module or block, and why there are none."""
    from probe.signals import measure_pair

    measured = measure_pair(row, forth)
    numbers: dict[str, Any] = {"family": str(row.family), "forth": dict(measured.values), "missing": measured.missing}
    return numbers if row.is_symmetric else numbers | {"back": dict(measure_pair(row, back).values)}


def _print_findings(first: str, second: str, forth: Pair, back: Pair) -> None:
    from probe.explanation import explain
    from probe.signals import PAIR_SIGNALS

    console.print(f"[bold]What {first} and {second} do to each other[/]")
    told: list[tuple[Finding, str]] = []
    for who, pair in ((f"{first} on {second}: ", forth), (f"{second} on {first}: ", back)):
        for finding in explain(pair):
            if not PAIR_SIGNALS[finding.signal].is_symmetric:
                told.append((finding, who))
            elif pair is forth:
                told.append((finding, ""))
    for finding, who in sorted(told, key=lambda one: not one[0].is_conflict):
        if finding.missing is None:
            mark = "[red]![/]" if finding.is_conflict else "[green]-[/]"
            console.print(f"{mark} {who}{finding.sentence}", highlight=False)
    if unknown := dict.fromkeys(finding.mechanism for finding, _ in told if finding.missing):
        console.print(f"? Not measured: {', '.join(unknown)}. Add --calibrate, or --rows.", highlight=False)


def _table(first: str, second: str, forth: Pair, back: Pair) -> Table:
    """Return the signals that were measured, directional ones in both directions."""
    from probe.signals import PAIR_SIGNALS

    table = Table("signal", "mean", "least", "most", "most in")
    for key, row in PAIR_SIGNALS.items():
        ways = [(key, forth)] if row.is_symmetric else [(f"{key}: {first}", forth), (f"{key}: {second}", back)]
        for name, pair in ways:
            if cells := _cells(row, pair):
                table.add_row(name, *cells)
    return table


def _cells(row: PairSignal, pair: Pair) -> tuple[str, ...]:
    from probe.signals import measure_pair

    values = measure_pair(row, pair).values
    if not values:
        return ()
    place = max(values, key=lambda name: values[name])
    numbers = (sum(values.values()) / len(values), min(values.values()), values[place])
    return (*(f"{number:.3f}" for number in numbers), _place_in_words(place))


def _place_in_words(place: str) -> str:
    from probe.layers import place_of

    if not place or place.isdigit():
        return f"block {place}" if place else ""
    found = place_of(place)
    return f"{'' if found.layer is None else found.layer} {place.rpartition('.')[2]}"
