"""Vetoes: what a person keeps out, so that a refused or rolled-back plan does not come right back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from router.records import Adapter


@dataclass(frozen=True, slots=True)
class Veto:
    """A group of adapters that a person keeps out, or one change of the routing table.

    Attributes
    ----------
    members
        Revisions of the group, sorted; with it every larger group is out that holds it. Empty: the very change of a
        plan is out, whatever it did.
    circumstances
        Under which it holds (`circumstances`); under others it is void.
    plan_id
        The plan that was rejected, or the plan that rolled another one back.
    by, reason
        Who, and why.
    at
        When; None until it is stored.
    """

    members: tuple[str, ...]
    circumstances: str
    plan_id: str
    by: str
    reason: str
    at: datetime | None = None


def circumstances(settings: str, facts: object) -> str:
    """Return a digest of what a veto depends on: the policy's settings as text, and facts that fit into JSON."""
    return hashlib.sha256(json.dumps([settings, facts]).encode()).hexdigest()


def group_circumstances(settings: str, members: Iterable[str], evaluations: Mapping[str, str | None]) -> str:
    """Return the circumstances of a group: the settings, and each member with the rows that it is measured on."""
    return circumstances(settings, [[member, evaluations.get(member)] for member in sorted(members)])


def vetoed_groups(vetoes: Iterable[Veto], settings: str, adapters: Collection[Adapter]) -> frozenset[frozenset[str]]:
    """Return the groups of revisions that are out now: members are in the bank, rows and settings are as they were."""
    evaluations = {adapter.revision: adapter.evaluation for adapter in adapters}
    return frozenset(
        frozenset(veto.members)
        for veto in vetoes
        if veto.members and veto.circumstances == group_circumstances(settings, veto.members, evaluations)
    )
