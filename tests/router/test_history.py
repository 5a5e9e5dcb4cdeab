"""Acts on plans: all of it or nothing, once, and in the audit log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from router.history import Act, History, PlanNotOpen
from router.records import Action, Placement, Plan, PlanState, Route, RoutingTable
from router.registry import Registry
from router.vetoes import Veto
from tests.router.databases import empty_postgres_database

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
WAITING = Plan("plan-1", PlanState.WAITING, NOON)
REJECTED = replace(WAITING, state=PlanState.REJECTED)
VETO = Veto(("a" * 64, "b" * 64), "c" * 64, "plan-1", "anna", "no")
REJECTION = Act("rejected", REJECTED, (PlanState.WAITING,), "anna", "no", (VETO,), notes=("x was removed",))


@pytest.fixture(params=["sqlite", "postgresql"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    is_file = request.param == "sqlite"
    url = f"sqlite:///{tmp_path / 'r.db'}" if is_file else empty_postgres_database(request.getfixturevalue("cluster"))
    registry = Registry(url, clock=lambda: NOON)
    registry.migrate()
    yield registry
    registry.close()


def table(epoch: int) -> RoutingTable:
    route = Route("a", "a" * 64, f"separate-{epoch}", Placement.SEPARATE, Action.ROUTE, "alone")
    return RoutingTable(epoch, (route,))


def test_an_act_is_a_new_state_its_vetoes_and_an_event(registry: Registry) -> None:
    registry.put_plan(WAITING)
    history = History(registry)
    history.record(REJECTION)
    assert registry.plan("plan-1") == REJECTED
    assert history.vetoes() == (replace(VETO, at=NOON),)
    (event,) = registry.events()
    assert (event.kind, event.subject, event.at) == ("rejected", "plan-1", NOON)
    assert event.message == "plan-1 was rejected by anna: no; x was removed"
    assert event.data == {"by": "anna", "reason": "no", "kept_out": [list(VETO.members)]}


@pytest.mark.parametrize("state", [state for state in PlanState if state is not PlanState.WAITING])
def test_an_act_on_a_plan_in_another_state_changes_nothing(registry: Registry, state: PlanState) -> None:
    registry.put_plan(replace(WAITING, state=state))
    history = History(registry)
    with pytest.raises(PlanNotOpen, match=f"plan-1 is {state}, and only a plan that is waiting can be rejected"):
        history.record(REJECTION)
    assert (registry.plan("plan-1").state, history.vetoes(), registry.events()) == (state, (), ())


def test_an_act_that_fails_half_way_leaves_nothing(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.put_plan(WAITING)
    monkeypatch.setattr("router.history._data", lambda act: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        History(registry).record(REJECTION)
    assert registry.plan("plan-1") == WAITING
    assert History(registry).vetoes() == ()


def test_acting_on_a_plan_that_went_back_lifts_what_it_kept_out(registry: Registry) -> None:
    history = History(registry)
    applied = Plan("plan-1", PlanState.APPLIED, NOON)
    back = Plan("plan-2", PlanState.APPROVED, NOON, rolls_back="plan-1")
    registry.put_plan(applied)
    kept_out = replace(VETO, plan_id="plan-2")
    gone = replace(applied, state=PlanState.ROLLED_BACK)
    history.record(Act("rolled_back", gone, (PlanState.APPLIED,), "anna", "", (kept_out,), back))
    assert registry.plan("plan-2") == back
    assert [veto.plan_id for veto in history.vetoes()] == ["plan-2"]
    assert registry.events()[0].data["plan"] == "plan-2"
    history.record(Act("rolled_back", replace(back, state=PlanState.ROLLED_BACK), (PlanState.APPROVED,), "bert", ""))
    assert history.vetoes() == ()


def test_a_waiting_plan_is_made_stale_unless_somebody_was_faster(registry: Registry) -> None:
    history = History(registry)
    registry.put_plan(WAITING)
    history.retire(WAITING, "too late")
    assert registry.plan("plan-1") == replace(WAITING, state=PlanState.STALE, message="too late", finished_at=NOON)
    registry.put_plan(replace(WAITING, state=PlanState.APPROVED))
    history.retire(WAITING, "too late")
    assert registry.plan("plan-1").state is PlanState.APPROVED


def test_what_a_plan_brought_is_the_table_before_its_first_epoch_and_that_of_its_last(registry: Registry) -> None:
    history = History(registry)
    for name in ("plan-1", "plan-2"):
        registry.put_plan(replace(WAITING, id=name))
    assert history.brought("plan-1") is None
    for epoch, plan_id in ((1, "plan-1"), (2, None), (3, "plan-2"), (4, "plan-2"), (5, None)):
        registry.commit(table(epoch), plan_id)
    assert history.brought("plan-1") == (RoutingTable(), table(1))
    assert history.brought("plan-2") == (table(2), table(4))


def test_plans_are_listed_by_state(registry: Registry) -> None:
    registry.put_plan(WAITING)
    registry.put_plan(replace(WAITING, id="plan-2", state=PlanState.APPLIED))
    assert [plan.id for plan in registry.plans(states=(PlanState.WAITING, PlanState.APPROVED))] == ["plan-1"]
    assert len(registry.plans()) == 2
