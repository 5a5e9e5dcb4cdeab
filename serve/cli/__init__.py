"""The command line: thin commands over HTTP (a running bank) or over files (building one)."""

from __future__ import annotations

import sys

import typer

from probe.records import MergeProbeError
from serve.cli import (
    approving,
    building,
    comparing,
    evaluating,
    fitting,
    forecasting,
    labelling,
    merging,
    proving,
    reporting,
    running,
    simulating,
    starting,
    tasks,
)

app = typer.Typer(
    name="mergeprobe",
    help="Serve a bank of LoRA adapters: those that may be merged share a module, measured, the others stay separate.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="markdown",
)
app.command()(starting.serve)
app.command()(starting.doctor)
app.command()(running.register)
app.command()(running.show)
app.command()(running.remove)
app.command()(running.plan)
app.command()(running.plans)
app.command()(approving.approve)
app.command()(approving.reject)
app.command()(approving.rollback)
app.command()(comparing.signals)
app.command()(merging.merge)
app.command()(fitting.fit)
app.command()(evaluating.evaluate)
app.command()(proving.prove)
app.command()(forecasting.forecast)
app.command()(simulating.simulate)
app.command("list")(running.list_adapters)
building.app.command()(tasks.tasks)
building.app.command()(labelling.label)
building.app.command()(labelling.verify)
building.app.command()(reporting.report)
app.add_typer(building.app, name="bank")


def main() -> None:
    """Run the command line; an error of ours is one message, not a traceback."""
    try:
        app()
    except MergeProbeError as error:
        typer.secho(f"error: {error}", fg=typer.colors.RED, err=True)
        sys.exit(1)
