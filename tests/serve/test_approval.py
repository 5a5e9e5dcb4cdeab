"""Mode `approve`: what waits for a person, what does not, and what a person's word does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from router.engine import EngineError
from router.records import Plan, PlanState
from serve.acts import StalePlan
from tests.serve.bank import TinyBank

APPROVE = {"policy__mode": "approve"}


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[TinyBank]:
    bank = TinyBank(tmp_path, overrides=APPROVE)
    yield bank
    bank.registry.close()


def pair(bank: TinyBank) -> Plan:
    """Register a and b, let the bank measure them, and return the plan that waits."""
    bank.register("a")
    bank.register("b")
    bank.round()
    return bank.waiting()


def placements(bank: TinyBank) -> dict[str, str]:
    return {route.adapter: route.placement.value for route in bank.registry.table().routes}


def state(bank: TinyBank, plan: Plan) -> PlanState:
    return bank.registry.plan(plan.id).state


def acts(bank: TinyBank) -> list[tuple[str, str, object, object]]:
    kinds = ("approved", "rejected", "rolled_back")
    events = [event for event in bank.registry.events() if event.kind in kinds]
    return [(event.kind, event.subject, event.data["by"], event.data["reason"]) for event in events]


def reopened(bank: TinyBank, **overrides: object) -> TinyBank:
    """Return the same bank as another process finds it, on the same replicas."""
    bank.registry.close()
    after = TinyBank(bank.folder, bank.kept, overrides={**bank.overrides, **overrides})
    after.engine.replicas = bank.engine.replicas
    return after


# Waiting


def test_newcomers_are_served_and_measured_but_a_merge_waits(bank: TinyBank) -> None:
    plan = pair(bank)
    assert placements(bank) == {"a": "separate", "b": "separate"}
    assert {decision.placement.value for decision in plan.decisions} == {"merged"}
    assert any(verdict.passed for verdict in bank.registry.verdicts() if len(verdict.recipe.members) == 2)
    assert plan.id in plan.message
    assert "a, b" in plan.message
    assert all(replica.resident == bank.registry.table().modules for replica in bank.engine.replicas)
    assert {route.reason for route in bank.registry.table().routes} == {
        "a: served as before until a person approves a plan that changes that",
        "b: served as before until a person approves a plan that changes that",
    }


def test_a_change_waits_once_however_often_the_controller_ticks(bank: TinyBank) -> None:
    plan, table = pair(bank), bank.registry.table()
    for _ in range(3):
        bank.round()
    assert bank.waiting() == plan
    assert bank.registry.table() == table


def test_a_plan_that_a_person_asks_for_tells_where_its_change_waits(bank: TinyBank) -> None:
    plan = pair(bank)
    asked = [bank.bank.clockwork.ask() for _ in range(2)]
    bank.bank.clockwork._answer([one.id for one in asked])
    for one in asked:
        answered = bank.registry.plan(one.id)
        assert answered.state is PlanState.APPLIED
        assert plan.id in answered.message
    assert bank.waiting() == plan


def test_of_several_plans_that_are_asked_for_together_one_waits(bank: TinyBank) -> None:
    bank.register("a")
    bank.register("b")
    asked = [bank.bank.clockwork.ask() for _ in range(2)]
    bank.bank.clockwork._answer([one.id for one in asked])
    first, second = (bank.registry.plan(one.id) for one in asked)
    assert (first.state, second.state) == (PlanState.WAITING, PlanState.APPLIED)
    assert first.id in second.message


def test_a_newcomer_meanwhile_is_served_and_leaves_the_waiting_plan_as_it_is(bank: TinyBank) -> None:
    plan = pair(bank)
    bank.register("safety", protected=True)
    bank.round()
    assert placements(bank) == {"a": "separate", "b": "separate", "safety": "protected"}
    assert bank.waiting().id == plan.id


# Approving


def test_an_approved_plan_is_carried_out_and_the_log_says_who_and_why(bank: TinyBank) -> None:
    plan = pair(bank)
    approved = bank.bank.acts.approve(plan.id, "anna", "looked at it")
    assert approved.state is PlanState.APPROVED
    bank.round()
    assert placements(bank) == {"a": "merged", "b": "merged"}
    done = bank.registry.plan(plan.id)
    assert (done.state, done.epoch) == (PlanState.APPLIED, bank.registry.epoch())
    assert done.finished_at is not None
    assert acts(bank) == [("approved", plan.id, "anna", "looked at it")]
    assert all(replica.resident == bank.registry.table().modules for replica in bank.engine.replicas)


def test_a_plan_cannot_be_approved_once_a_member_was_registered_anew(bank: TinyBank) -> None:
    plan = pair(bank)
    bank.register("a", seed=1)
    with pytest.raises(StalePlan, match=plan.id):
        bank.bank.acts.approve(plan.id, "anna", "")
    assert state(bank, plan) is PlanState.STALE
    bank.round()
    assert bank.registry.table().route("a").revision == bank.registry.adapter("a").revision
    assert acts(bank) == []


def test_a_plan_whose_member_was_removed_is_stale_after_the_next_tick(bank: TinyBank) -> None:
    plan = pair(bank)
    bank.bank.registrar.remove("b", force=False)
    bank.round()
    assert state(bank, plan) is PlanState.STALE
    assert placements(bank) == {"a": "separate"}


def test_a_bank_that_changes_between_the_word_and_the_tick_makes_the_plan_stale(bank: TinyBank) -> None:
    plan = pair(bank)
    bank.bank.acts.approve(plan.id, "anna", "")
    bank.register("a", seed=1)
    bank.round()
    assert state(bank, plan) is PlanState.STALE
    assert placements(bank) == {"a": "separate", "b": "separate"}


def test_an_approved_plan_that_the_engine_failed_is_tried_again_without_another_word(bank: TinyBank) -> None:
    plan = pair(bank)
    bank.bank.acts.approve(plan.id, "anna", "")
    failures = iter([True, True])

    def fail(order: str, subject: str, replica: int) -> None:
        if order == "flip" and next(failures, False):
            raise EngineError("planted")

    bank.engine.fail = fail
    bank.round()
    assert state(bank, plan) is PlanState.APPROVED
    assert bank.registry.plan(plan.id).message == "planted"
    bank.round()
    assert state(bank, plan) is PlanState.APPLIED
    assert all(replica.table == bank.registry.table() for replica in bank.engine.replicas)


@pytest.mark.parametrize("before_commit", [True, False])
def test_a_controller_that_dies_while_it_carries_out_an_approved_plan_finishes_it(
    bank: TinyBank, before_commit: bool
) -> None:
    plan = pair(bank)
    bank.bank.acts.approve(plan.id, "anna", "")

    class Killed(BaseException):
        """Ends the controller as a kill would: no handler of its own runs."""

    def fail(order: str, subject: str, replica: int) -> None:
        if order == ("load" if before_commit else "flip"):
            raise Killed

    bank.engine.fail = fail
    with pytest.raises(Killed):
        bank.round()
    after = reopened(bank)
    after.round()
    assert state(after, plan) is PlanState.APPLIED
    assert placements(after) == {"a": "merged", "b": "merged"}
    assert all(replica.table == after.registry.table() for replica in after.engine.replicas)
    epoch = after.registry.epoch()
    after.round()
    assert after.registry.epoch() == epoch
    after.registry.close()


# Rejecting


def test_a_rejected_plan_does_not_come_back(bank: TinyBank) -> None:
    plan = pair(bank)
    bank.bank.acts.reject(plan.id, "anna", "not these two")
    for _ in range(2):
        bank.round()
    assert state(bank, plan) is PlanState.REJECTED
    assert bank.registry.plans(states=(PlanState.WAITING,)) == ()
    assert acts(bank) == [("rejected", plan.id, "anna", "not these two")]


def test_what_was_rejected_is_proposed_again_with_a_new_revision(bank: TinyBank) -> None:
    plan = pair(bank)
    bank.bank.acts.reject(plan.id, "anna", "not these two")
    bank.register("a", seed=1)
    bank.round()
    assert bank.waiting().id != plan.id


def test_what_was_rejected_is_proposed_again_under_other_settings(bank: TinyBank) -> None:
    plan = pair(bank)
    bank.bank.acts.reject(plan.id, "anna", "not these two")
    after = reopened(bank, policy__lambda_cost=0.6)
    after.round()
    assert after.waiting().id != plan.id
    after.registry.close()


def test_a_larger_group_that_holds_a_rejected_one_is_out_too(bank: TinyBank) -> None:
    plan = pair(bank)
    bank.bank.acts.reject(plan.id, "anna", "not these two")
    bank.register("c")
    rejected = {bank.registry.adapter(name).revision for name in "ab"}
    for _ in range(4):
        bank.round()
        for waiting in bank.registry.plans(states=(PlanState.WAITING,)):
            groups = [set(decision.recipe.members) for decision in waiting.decisions if decision.recipe]
            assert groups, "c may be merged with either"
            assert not any(rejected <= group for group in groups)
    assert not any(rejected < set(verdict.recipe.members) for verdict in bank.registry.verdicts())


def test_refusing_to_take_a_group_apart_is_not_asked_again(bank: TinyBank) -> None:
    plan = pair(bank)
    bank.bank.acts.approve(plan.id, "anna", "")
    bank.round()
    after = reopened(bank, policy__target_retention=1.2)  # more than the pair was measured to keep
    after.round()
    apart = after.waiting()
    assert {decision.placement.value for decision in apart.decisions} == {"separate"}
    after.bank.acts.reject(apart.id, "anna", "keep them")
    after.round()
    assert after.registry.plans(states=(PlanState.WAITING,)) == ()
    assert placements(after) == {"a": "merged", "b": "merged"}
    after.registry.close()


# Switching modes


def test_switched_to_auto_the_bank_carries_out_what_waited(bank: TinyBank) -> None:
    plan = pair(bank)
    after = reopened(bank, policy__mode="auto")
    after.round()
    assert placements(after) == {"a": "merged", "b": "merged"}
    assert state(after, plan) is PlanState.STALE
    after.registry.close()


def test_switched_to_approve_what_is_merged_stays_and_a_new_merge_waits(tmp_path: Path) -> None:
    bank = TinyBank(tmp_path)
    bank.register("a")
    bank.register("b")
    bank.round()
    merged = bank.registry.table().route("a").module
    after = reopened(bank, policy__mode="approve", policy__max_trials=9)
    for name in "cd":
        after.register(name)
    after.round()
    assert placements(after) == {"a": "merged", "b": "merged", "c": "separate", "d": "separate"}
    assert after.registry.table().route("a").module == merged
    assert after.waiting()
    after.registry.close()


def test_a_person_s_own_acts_need_no_approval(bank: TinyBank) -> None:
    plan = pair(bank)
    bank.bank.acts.approve(plan.id, "anna", "")
    bank.round()
    bank.register("a", protected=True)
    bank.round()
    assert placements(bank)["a"] == "protected"
    assert bank.registry.table().route("a").module.startswith("separate-")
    bank.bank.registrar.remove("a", force=True)
    bank.round()
    assert "a" not in placements(bank)


# Over HTTP


def test_the_acts_over_http(bank: TinyBank) -> None:
    client: TestClient = bank.client()
    plan = pair(bank)
    diff = client.get(f"/bank/plans/{plan.id}").json()["diff"]
    assert [move["adapter"] for move in diff["moves"]] == ["a", "b"]
    assert diff["now"]["cost"] - diff["planned"]["cost"] == 0.5
    assert diff["planned"]["worst"] == {"value": 1.0, "source": "measured"}
    answer = client.post(f"/bank/plans/{plan.id}/approve", json={"by": "Jürgen", "reason": "geprüft"})
    assert (answer.status_code, answer.json()["state"]) == (202, "approved")
    again = client.post(f"/bank/plans/{plan.id}/approve")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "plan_not_open")
    bank.round()
    back = client.post(f"/bank/plans/{plan.id}/rollback", json={"reason": "shorter answers"})
    assert (back.status_code, back.json()["state"], back.json()["rolls_back"]) == (202, "approved", plan.id)
    bank.round()
    assert placements(bank) == {"a": "separate", "b": "separate"}
    events = [event for event in client.get("/bank/events").json()["events"] if event["subject"] == plan.id]
    assert [(event["kind"], event["data"]["by"]) for event in events] == [
        ("rolled_back", "somebody (no admin key is set)"),
        ("approved", "Jürgen"),
    ]
    assert all(event["at"] for event in events)


@pytest.mark.parametrize("verb", ["approve", "reject", "rollback"])
def test_an_unknown_plan_is_404_and_a_preview_409(bank: TinyBank, verb: str) -> None:
    client = bank.client()
    answer = client.post(f"/bank/plans/plan-of-nobody/{verb}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "plan_not_found")
    preview = client.post("/bank/replan", json={"apply": False}).json()
    answer = client.post(f"/bank/plans/{preview['id']}/{verb}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "plan_not_open")
    assert "proposed" in answer.json()["error"]["message"]
    answer = client.post(f"/bank/plans/{preview['id']}/{verb}", json={"why": "?"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "why")


def test_a_stale_plan_is_409(bank: TinyBank) -> None:
    plan = pair(bank)
    bank.bank.registrar.remove("b", force=False)
    answer = bank.client().post(f"/bank/plans/{plan.id}/approve")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "stale_plan")
