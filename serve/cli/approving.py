"""Deciding about plans of a running bank: approve, reject, roll back. They speak HTTP to its admin plane."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from serve.cli.running import LOCAL, AdminKey, AsJson, Url, Wait, print_plan, wait_for_plan
from serve.client import BankClient

PlanId = Annotated[str, typer.Argument(help="Id of the plan; `mergeprobe plans` lists them.")]
Reason = Annotated[str, typer.Option(help="Why, for the audit log (GET /bank/events).")]
By = Annotated[str | None, typer.Option(envvar=["MERGEPROBE_BY", "USER"], help="Who decides, for the audit log.")]


def approve(
    plan_id: PlanId,
    reason: Reason = "",
    by: By = None,
    wait: Wait = True,
    url: Url = LOCAL,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Let a waiting plan be carried out; refused if the bank has changed since it was made.

    Example: `mergeprobe approve plan-0123456789ab --reason "the pair was looked at"`
    """
    _act("approve", plan_id, reason, by, url, admin_key, as_json, wait=wait)


def reject(
    plan_id: PlanId,
    reason: Reason = "",
    by: By = None,
    url: Url = LOCAL,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Refuse a waiting plan; its groups are not proposed again until a member or the policy changes.

    Example: `mergeprobe reject plan-0123456789ab --reason "legal must stay alone"`
    """
    _act("reject", plan_id, reason, by, url, admin_key, as_json)


def rollback(
    plan_id: PlanId,
    reason: Reason = "",
    by: By = None,
    wait: Wait = True,
    url: Url = LOCAL,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Go back to what was served before a plan, in a new epoch, and keep its groups out.

    Rolling back the plan that this makes undoes it.

    Example: `mergeprobe rollback plan-0123456789ab --reason "answers got shorter"`
    """
    _act("rollback", plan_id, reason, by, url, admin_key, as_json, wait=wait)


def _act(
    verb: str,
    plan_id: str,
    reason: str,
    by: str | None,
    url: str,
    admin_key: str | None,
    as_json: bool,
    *,
    wait: bool = False,
) -> None:
    with BankClient(url, admin_key) as client:
        plan: dict[str, Any] = client.act(plan_id, verb, by, reason)
        if wait:
            plan = wait_for_plan(client, plan["id"])
    print_plan(plan, as_json)
