"""What people decided about plans, who and why, and what was served before: the registry's audit log.

The same database as `router.registry`; again every public method is one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, delete, insert, select

from router.database import columns, put, read_all, read_first, reading, writing
from router.records import Plan, PlanState, RoutingTable
from router.registry import Registry, RegistryError
from router.schema import epochs, events, plans, vetoes
from router.vetoes import Veto


class PlanNotOpen(RegistryError):
    """The plan is not in a state in which this can be decided about it."""


@dataclass(frozen=True, slots=True)
class Act:
    """What a person does to a plan.

    Attributes
    ----------
    kind
        ``approved``, ``rejected`` or ``rolled_back``: the event's kind.
    plan
        The plan in its new state.
    was
        The states that it may have been in.
    by, reason
        Who, and why.
    vetoes
        What is kept out from now on.
    follow_up
        Another plan that this makes.
    notes
        What a person should know of the consequences.
    """

    kind: str
    plan: Plan
    was: tuple[PlanState, ...]
    by: str
    reason: str
    vetoes: Sequence[Veto] = ()
    follow_up: Plan | None = None
    notes: Sequence[str] = ()


class History:
    """Decisions of people about plans, on the registry's database."""

    def __init__(self, registry: Registry) -> None:
        self._engine, self._now = registry.database, registry.now

    def record(self, act: Act) -> None:
        """Carry out an act with its event, its vetoes and its follow-up: all of it or nothing.

        What a plan kept out by going back behind another one is free again when somebody acts on that plan.

        Raises
        ------
        PlanNotOpen
            The plan is in another state by now: somebody else was faster.
        """
        now = self._now()
        with writing(self._engine) as connection:
            stored = read_first(connection, plans, Plan, plans.c.id == act.plan.id)
            if stored is None or stored.state not in act.was:
                raise PlanNotOpen(
                    f"Plan {act.plan.id} is {stored.state if stored else 'unknown'}, and only a plan that is "
                    f"{' or '.join(act.was)} can be {act.kind.replace('_', ' ')}; see: mergeprobe plans"
                )
            for plan in filter(None, (act.plan, act.follow_up)):
                put(connection, plans, {"id": plan.id}, columns(plan))
            if act.plan.rolls_back is not None:
                connection.execute(delete(vetoes).where(vetoes.c.plan_id == act.plan.id))
            for veto in act.vetoes:
                connection.execute(insert(vetoes).values(**columns(replace(veto, at=now))))
            row = {"at": now, "kind": act.kind, "subject": act.plan.id, "message": _told(act), "data": _data(act)}
            connection.execute(insert(events).values(row))

    def retire(self, plan: Plan, message: str) -> None:
        """Make a waiting plan stale, unless a person has decided about it meanwhile."""
        stale = replace(plan, state=PlanState.STALE, message=message, finished_at=self._now())
        with writing(self._engine) as connection:
            stored = read_first(connection, plans, Plan, plans.c.id == plan.id)
            if stored is not None and stored.state is PlanState.WAITING:
                put(connection, plans, {"id": plan.id}, columns(stale))

    def vetoes(self) -> tuple[Veto, ...]:
        """Return everything that people keep out, oldest first."""
        with reading(self._engine) as connection:
            return read_all(connection, vetoes, Veto, order=(vetoes.c.id,))

    def brought(self, plan_id: str) -> tuple[RoutingTable, RoutingTable] | None:
        """Return the tables before a plan's first epoch and of its last one; None where it committed none."""
        own = select(epochs.c.epoch).where(epochs.c.plan_id == plan_id).order_by(epochs.c.epoch)
        with reading(self._engine) as connection:
            numbers = connection.execute(own).scalars().all()
            if not numbers:
                return None
            return _table(connection, numbers[0] - 1), _table(connection, numbers[-1])


def _table(connection: Connection, epoch: int) -> RoutingTable:
    routes = connection.execute(select(epochs.c.routes).where(epochs.c.epoch == epoch)).scalar_one_or_none()
    return RoutingTable() if routes is None else RoutingTable(epoch, routes)


def _told(act: Act) -> str:
    sentence = f"{act.plan.id} was {act.kind.replace('_', ' ')} by {act.by}: {act.reason or 'no reason given'}"
    return "; ".join((sentence, *act.notes))


def _data(act: Act) -> dict[str, object]:
    data: dict[str, object] = {"by": act.by, "reason": act.reason}
    if act.vetoes:
        data["kept_out"] = [list(veto.members) for veto in act.vetoes if veto.members]
    if act.follow_up is not None:
        data["plan"] = act.follow_up.id
    return data
