"""Commands that measure a bank, and that check what was measured."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from serve.cli.profiling import Base, Device
from serve.cli.progress import progress
from serve.cli.running import AsJson

if TYPE_CHECKING:
    from probe.bank.records import Records
    from probe.bank.verify import Verification

console = Console()


def label(
    bank: Annotated[Path, typer.Argument(help="Folder of a bank that was built, or of part of it.")],
    out: Annotated[Path, typer.Option(help="Folder of the records; what it holds is written anew.")],
    preset: Annotated[str, typer.Option(help="How much is measured: a name, or 'list' to see them.")] = "cpu",
    jobs: Annotated[int, typer.Option(min=1, help="Processes; more than one have one thread each.")] = 1,
    only: Annotated[
        list[str] | None, typer.Option(help="Part of the work: pairs, sets, features, ...; repeatable.")
    ] = None,
    base: Base = None,
    device: Device = "cpu",
    cache: Annotated[Path, typer.Option(help="Where the embedded base is unpacked.")] = Path("var/base"),
) -> None:
    """Measure what merging keeps of each adapter, and write the records; it goes on where it was stopped.

    What was measured is in BANK/labels, line by line. With --only records nothing is measured: the records are written
    from what is there.

    Example: `mergeprobe bank label ./my-bank --out ./records --preset demo --jobs 2`
    """
    from probe.bank.labelling.bank import PARTS, label_bank  # imports torch, which `--help` must not wait for
    from probe.bank.labelling.hardware import hardware, versions
    from probe.bank.labelling.plan import LABEL_PLANS
    from probe.bank.labelling.sessions import Session
    from probe.bank.labelling.workplace import Workplace
    from probe.embedded import export_embedded_base

    if preset == "list":
        console.print("\n".join(sorted(LABEL_PLANS)))
        return
    parts = only or list(PARTS)
    if preset not in LABEL_PLANS or not set(parts) <= {*PARTS, "records"}:
        raise typer.BadParameter(
            f"there is no preset {preset!r}, or no part of {parts}; presets: {', '.join(sorted(LABEL_PLANS))}; "
            f"parts: {', '.join(PARTS)}, records"
        )
    place = Workplace(bank, bank / "labels", base or export_embedded_base(cache), device, LABEL_PLANS[preset])
    command = f"mergeprobe bank label {bank.name} --out {out.name} --preset {preset} --jobs {jobs}"
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    session = Session(today, command, hardware(device), versions())
    with progress() as show:
        records = label_bank(place, out, preset, session, jobs=jobs, only=parts, on_progress=show)
    _print_records(records, out)


def verify(
    records: Annotated[Path | None, typer.Option(help="Folder of the records; none: the shipped ones.")] = None,
    bank: Annotated[Path | None, typer.Option(help="Folder of adapters; none: the shipped ones.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Labels that are recomputed.")] = 10,
    seed: Annotated[int, typer.Option(help="Of the draw of labels.")] = 0,
    base: Base = None,
    device: Device = "cpu",
    cache: Annotated[Path, typer.Option(help="Where the embedded base is unpacked.")] = Path("var/base"),
    as_json: AsJson = False,
) -> None:
    """Recompute labels of the records from the adapters themselves; exit code 1 if they are not what was recorded.

    Example: `mergeprobe bank verify --seed 1`
    """
    from probe.bank.measuring import Evaluator  # imports torch, which `--help` must not wait for
    from probe.bank.record_files import SHIPPED_RECORDS, read_records
    from probe.bank.verify import SHIPPED_BANK
    from probe.bank.verify import verify as verify_records
    from probe.embedded import export_embedded_base
    from probe.reference import Reference

    evaluator = Evaluator(Reference(base or export_embedded_base(cache), device))
    known = read_records(records or SHIPPED_RECORDS)
    found = verify_records(known, bank or SHIPPED_BANK, evaluator, num_labels=count, seed=seed)
    if as_json:
        typer.echo(json.dumps(_verified_as_json(found), indent=2))
    else:
        _print_verified(found)
    if not found.passed:
        raise typer.Exit(1)


def _verified_as_json(found: Verification) -> dict[str, Any]:
    labels = [
        {
            "members": one.label.members,
            "adapter": one.label.adapter,
            "operator": one.label.operator,
            "num_rows": one.label.num_rows,
            "num_flipped": one.num_flipped,
            "likelihood_error": one.likelihood_error,
        }
        for one in found.recomputed
    ]
    told = {"statistic": found.statistic, "p_value": found.p_value, "passed": found.passed}
    return {"labels": labels, "degrees_of_freedom": found.degrees_of_freedom, **told}


def _print_verified(found: Verification) -> None:
    table = Table("merged", "asked", "operator", "rows", "flipped", "log-likelihood off by, nats")
    for one in found.recomputed:
        label = one.label
        numbers = str(label.num_rows), str(one.num_flipped), f"{one.likelihood_error:.4f}"
        table.add_row(" + ".join(label.members), label.adapter, label.operator, *numbers)
    console.print(table)
    verdict = "the records stand" if found.passed else "the records are NOT what these adapters give"
    told = f"chi-squared {found.statistic:.2f} ({found.degrees_of_freedom} degrees of freedom), p = {found.p_value:.3g}"
    console.print(f"{told}: {verdict}", highlight=False)


def _print_records(records: Records, out: Path) -> None:
    merges = [label for label in records.labels if label.action != "single"]
    sound = sum(label.is_sound for label in merges)
    table = Table("records", str(out))
    table.add_row("adapters", str(len(records.adapters)))
    table.add_row("labels of merges", f"{len(merges)}, {len(merges) - sound} of them without a clear gain")
    table.add_row("feature rows", f"{len(records.adapter_features)} adapters, {len(records.pair_features)} pairs")
    console.print(table)
    for row in records.facts.pilot:
        console.print(
            f"{row['name']}: {row['measured']} (wanted {row['wanted']}), {'passed' if row['passed'] else 'FAILED'}"
        )
