"""The command that compares plans of adapters which no predictor has seen, on records and on the real engine."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from probe.plan_score import LAMBDA_COST, TARGET_RETENTION
from serve.cli.profiling import Base
from serve.cli.progress import progress
from serve.cli.reporting import verdict_table
from serve.cli.running import AsJson

if TYPE_CHECKING:
    from serve.proof.proof import Proof
    from serve.proof.recorded_bank import ServedBank

console, errors = Console(), Console(stderr=True)

SERVED_FILE = "served.jsonl"
"""What the engine answered, in the folder of the records or of the report."""


def prove(
    records: Annotated[
        Path | None, typer.Argument(help="Folder of records of a held-out bank; none: those that are shipped.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for report.md, report.html, report.json and the figure.")] = Path(
        "proof"
    ),
    predictor: Annotated[str, typer.Option(help="Folder of a predictor; 'default' is the shipped one.")] = "default",
    target: Annotated[
        float, typer.Option(min=0, max=1, help="Retention that every member must keep.")
    ] = TARGET_RETENTION,
    lambda_cost: Annotated[
        float, typer.Option(min=0, help="Cost of a module, in retentions of one adapter.")
    ] = LAMBDA_COST,
    serve: Annotated[
        Path | None, typer.Option(help="Folder of the bank's adapters: serve every plan with vLLM as well.")
    ] = None,
    base: Base = None,
    cache: Annotated[Path, typer.Option(help="Where the embedded base is unpacked.")] = Path("var/base"),
    as_json: AsJson = False,
) -> None:
    """Compare what MergeProbe would serve with every other way to plan the same bank, by measurements alone.

    The records are of adapters on which no predictor was fitted, with every group of them measured. With --serve all
    plans run on the real engine as well, and answer rows that nothing was decided by; OUT/served.jsonl keeps the
    answers, so that a stopped run goes on. Without it, what the records' own served.jsonl holds is shown.

    Example: `mergeprobe prove --out ./proof`

    Example: `mergeprobe prove ./records --serve ./held-out-bank --out ./proof`
    """
    # Imports torch, which `--help` must not wait for.
    from probe.bank.record_files import SHIPPED_HELD_OUT, read_records
    from probe.bank.report.pages import as_json as as_plain
    from probe.bank.report.pages import write_report
    from probe.embedded import export_embedded_base
    from serve.forecasts import load_predictor
    from serve.proof.proof import prove as prove_on
    from serve.proof.sections import TITLE, sections_of

    folder = records or SHIPPED_HELD_OUT
    proof = prove_on(read_records(folder), load_predictor(predictor), target=target, lambda_cost=lambda_cost)
    out.mkdir(parents=True, exist_ok=True)
    served = (
        _recorded(proof, folder / SERVED_FILE)
        if serve is None
        else _served(proof, serve, base or export_embedded_base(cache), out / SERVED_FILE)
    )
    sections = sections_of(proof, served)
    paths = write_report(sections, out, TITLE)
    if as_json:
        typer.echo(json.dumps(as_plain(sections, TITLE), indent=2))
        return
    console.print(verdict_table(sections))
    console.print(f"{len(paths)} files in {out}; open {out / 'report.html'}.", highlight=False)


def _served(proof: Proof, folder: Path, base: Path, journal: Path) -> ServedBank:
    from serve.proof.engine import served_scores, vllm_engine
    from serve.proof.recorded_bank import ServedBank
    from serve.proof.sections import served_plans

    bank, plans = proof.contest.bank, served_plans(proof)
    with progress() as show:
        rank = max(recipe.rank for recipe in bank.recipes)
        start = partial(vllm_engine, base, rank)
        scores = served_scores(bank, plans.values(), folder, journal, start, show)
    return ServedBank(bank.records, scores)


def _recorded(proof: Proof, journal: Path) -> ServedBank | None:
    """Return what the engine answered when the records were made, unless these plans hold other modules."""
    from serve.proof.engine import questions, read_scores
    from serve.proof.recorded_bank import ServedBank
    from serve.proof.sections import served_plans

    bank = proof.contest.bank
    known = read_scores(bank, journal)
    if not known.keys() >= set(questions(bank, served_plans(proof).values())):
        errors.print("The engine has not served all of these plans: name the bank's folder with --serve.")
        return None
    return ServedBank(bank.records, known)
