"""The command that evaluates predictors on measured records; it works on files, needs no server and no adapter."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from serve.cli.progress import progress
from serve.cli.reporting import verdict_table
from serve.cli.running import AsJson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probe.bank.records import Records
    from probe.bank.report.section import Section
    from probe.evaluation.evaluation import Evaluation
    from probe.evaluation.settings import Settings

console = Console()


def evaluate(
    records: Annotated[Path | None, typer.Argument(help="Folder of records; none: those that are shipped.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for report.md, report.html, report.json and the figures.")] = Path(
        "evaluation"
    ),
    threads: Annotated[int, typer.Option(min=1, help="Of the trees.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Evaluate predictors on adapters that they have not seen, against every baseline, with a verdict on every claim.

    Some hundred predictors and models are fitted, each without what it is tested on: half an hour for 50 adapters.

    Example: `mergeprobe evaluate ./records --out ./evaluation`
    """
    # Imports torch, which `--help` must not wait for.
    from probe.bank.record_files import SHIPPED_RECORDS, read_records
    from probe.bank.report.pages import as_json as as_plain
    from probe.bank.report.pages import write_report
    from probe.evaluation.sections import TITLE, report_on
    from probe.evaluation.settings import Settings

    default = Settings()
    headline, repeated = (replace(one, num_threads=threads) for one in (default.headline, default.repeated))
    settings = replace(default, headline=headline, repeated=repeated)
    sections = report_on(_evaluated(read_records(records or SHIPPED_RECORDS), settings))
    paths = write_report(sections, out, TITLE)
    if as_json:
        typer.echo(json.dumps(_without_figures(as_plain(sections, TITLE)), indent=2))
        return
    _print_plainly(sections)
    console.print(verdict_table(sections))
    console.print(f"{len(paths)} files in {out}; open {out / 'report.html'}.", highlight=False)


def _evaluated(records: Records, settings: Settings) -> Evaluation:
    from probe.evaluation.evaluation import evaluate as evaluate_predictors

    with progress() as show:
        return evaluate_predictors(records, settings, lambda _fitted, done, total: show("fits", done, total))


def _without_figures(report: dict[str, Any]) -> dict[str, Any]:
    sections = [{key: value for key, value in one.items() if key != "figures"} for one in report["sections"]]
    return report | {"sections": sections}


def _print_plainly(sections: Sequence[Section]) -> None:
    """Print what the records are too few for."""
    for section in sections:
        for gap in section.gaps:
            console.print(f"{section.title}: {gap}", highlight=False, markup=False)
