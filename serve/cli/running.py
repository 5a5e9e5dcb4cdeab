"""Commands on a running bank; they speak HTTP to its admin plane."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from serve.client import BankClient, BankError

Url = Annotated[str, typer.Option(envvar="MERGEPROBE_URL", help="Where the bank listens.")]
AdminKey = Annotated[str | None, typer.Option(envvar="MERGEPROBE_ADMIN_KEY", help="Key of the admin plane.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Wait = Annotated[bool, typer.Option(help="Return only when it is done.")]

LOCAL = "http://127.0.0.1:8000"
WAIT_SECONDS = 1800.0
console = Console()


def register(
    name: Annotated[str, typer.Argument(help="Name that clients will ask for.")],
    source: Annotated[str, typer.Argument(help="PEFT folder: a path inside a configured root, s3://, gs://, hf://.")],
    domain: Annotated[str | None, typer.Option(help="Domain, such as math; some are protected.")] = None,
    protected: Annotated[bool, typer.Option(help="Never merge this adapter.")] = False,
    calibration: Annotated[str | None, typer.Option(help="JSONL of at most 256 rows.")] = None,
    evaluation: Annotated[str | None, typer.Option(help="JSONL of evaluation rows; none: it stays separate.")] = None,
    expected_revision: Annotated[str | None, typer.Option(help="Refuse unless this is the current one.")] = None,
    wait: Wait = False,
    url: Url = LOCAL,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Register an adapter, or a new revision of one.

    Example: `mergeprobe register math ./adapters/math --domain math --evaluation ./adapters/math/evaluation.jsonl`
    """
    body = {
        "name": name,
        "source": source,
        "domain": domain,
        "protected": protected,
        "calibration": calibration,
        "evaluation": evaluation,
        "expected_revision": expected_revision,
    }
    with BankClient(url, admin_key) as client:
        adapter = client.register({key: value for key, value in body.items() if value is not None})
        if wait:
            adapter = client.wait_until_served(name)
    _print_adapters([adapter], as_json)


def list_adapters(url: Url = LOCAL, admin_key: AdminKey = None, as_json: AsJson = False) -> None:
    """List the adapters and what serves each.

    Example: `mergeprobe list --json`
    """
    with BankClient(url, admin_key) as client:
        _print_adapters(client.get("/bank/adapters")["adapters"], as_json)


def show(name: str, url: Url = LOCAL, admin_key: AdminKey = None, as_json: AsJson = False) -> None:
    """Show everything about one adapter.

    Example: `mergeprobe show math`
    """
    with BankClient(url, admin_key) as client:
        adapter = client.get(f"/bank/adapters/{name}")
    if as_json:
        typer.echo(json.dumps(adapter, indent=2))
        return
    table = Table("field", "value", show_header=False)
    for key, value in adapter.items():
        table.add_row(key, "" if value is None else str(value))
    console.print(table)


def remove(
    name: str,
    force: Annotated[bool, typer.Option(help="Needed for a protected adapter.")] = False,
    wait: Wait = True,
    url: Url = LOCAL,
    admin_key: AdminKey = None,
) -> None:
    """Remove an adapter: new requests stop, running ones finish.

    Example: `mergeprobe remove math`
    """
    with BankClient(url, admin_key) as client:
        client.delete(f"/bank/adapters/{name}", force=force)
        if wait:
            with console.status(f"draining {name}"):
                client.wait_until_gone(name)
    console.print(f"{name} is {'removed' if wait else 'leaving'}")


def plan(
    apply: Annotated[bool, typer.Option("--apply", help="Carry it out: build, measure, swap.")] = False,
    url: Url = LOCAL,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Show what the controller would do, with a reason for each adapter; nothing changes without --apply.

    Example: `mergeprobe plan`, then `mergeprobe plan --apply`
    """
    with BankClient(url, admin_key) as client:
        made = client.post("/bank/replan", {"apply": apply})
        if apply:
            with console.status("building, measuring and swapping (follow it with: mergeprobe plans)"):
                made = wait_for_plan(client, made["id"])
    print_plan(made, as_json)


def plans(
    limit: Annotated[int, typer.Option(min=1, help="Newest first.")] = 10,
    url: Url = LOCAL,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """List recent plans.

    Example: `mergeprobe plans --limit 3`
    """
    with BankClient(url, admin_key) as client:
        listed = client.get(f"/bank/plans?limit={limit}")["plans"]
    if as_json:
        typer.echo(json.dumps(listed, indent=2))
        return
    table = Table("plan", "state", "created", "epoch", "adapters", "message")
    for one in listed:
        epoch = "" if one["epoch"] is None else str(one["epoch"])
        created = one["created_at"][:19].replace("T", " ")
        table.add_row(one["id"], one["state"], created, epoch, str(len(one["decisions"])), one["message"])
    console.print(table)


def wait_for_plan(client: BankClient, plan_id: str) -> dict[str, Any]:
    """Return a plan once the controller is done with it, or it waits for a person.

    Raises
    ------
    BankError
        It failed, or takes too long.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    made: dict[str, Any]
    while (made := client.get(f"/bank/plans/{plan_id}"))["state"] in ("pending", "running", "approved"):
        if time.monotonic() > deadline:
            raise BankError(f"plan {plan_id} still runs after {WAIT_SECONDS:.0f} s; see: mergeprobe plans")
        time.sleep(0.5)
    if made["state"] in ("failed", "stale"):
        raise BankError(f"plan {plan_id} is {made['state']}: {made['message']}")
    return made


def _print_adapters(adapters: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(adapters, indent=2))
        return
    table = Table("adapter", "state", "placement", "module", "retention", "revision")
    for one in adapters:
        kept = one["measured_retention"]
        table.add_row(
            one["name"],
            one["state"],
            one["placement"] or "",
            one["module"] or "",
            "" if kept is None else f"{kept:.2f}",
            one["revision"][:12],
        )
    console.print(table)
    _print_reasons(adapters)


def _print_reasons(explained: list[dict[str, Any]]) -> None:
    """Print one sentence each: as a column of a table they would be one word wide on most terminals."""
    for one in explained:
        if one["reason"]:
            console.print(f"- {one['reason']}", highlight=False)


def print_plan(made: dict[str, Any], as_json: bool) -> None:
    """Print a plan's decisions, what it wants measured, and its message."""
    if as_json:
        typer.echo(json.dumps(made, indent=2))
        return
    table = Table("adapter", "placement", "action", title=f"{made['id']} ({made['state']})")
    for one in made["decisions"]:
        table.add_row(one["adapter"], one["placement"], one["action"])
    console.print(table)
    _print_reasons(made["decisions"])
    for trial in made["trials"]:
        console.print(f"would measure {' + '.join(trial['adapters'])}: {trial['reason']}")
    if made["diff"]:
        _print_diff(made["diff"])
    if made["message"]:
        console.print(made["message"])


def _print_diff(diff: dict[str, Any]) -> None:
    """Print who would move where, and what that does to cost and retention."""
    for move in diff["moves"]:
        beside = f" with {', '.join(move['together_with'])}" if move["together_with"] else ""
        console.print(f"would move {move['adapter']}: {move['before'] or 'not served'} -> {move['after']}{beside}")
    for name, standing in (("now", diff["now"]), ("then", diff["planned"]), ("if every trial passes", diff["hoped"])):
        if standing is not None:
            figures = (f"{stat} retention {_figure(standing[stat])}" for stat in ("macro", "worst"))
            console.print(f"{name}: {standing['active']} modules, cost {standing['cost']:g}, {', '.join(figures)}")
    if diff["warning"]:
        console.print(diff["warning"])


def _figure(figure: dict[str, Any] | None) -> str:
    return "unknown" if figure is None else f"{figure['value']:.2f} ({figure['source']})"
