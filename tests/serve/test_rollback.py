"""Going back behind a plan: what comes back, what cannot, and that it does not come right back again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from router.history import PlanNotOpen
from router.records import Plan, PlanState
from serve.acts import StalePlan
from tests.serve.bank import TinyBank, eventually


def placements(bank: TinyBank) -> dict[str, str]:
    return {route.adapter: route.placement.value for route in bank.registry.table().routes}


def merged_pair(bank: TinyBank) -> Plan:
    """Register a and b in a round of their own each, and return the plan that merged them."""
    for name in "ab":
        bank.register(name)
        bank.round()
    assert placements(bank) == {"a": "merged", "b": "merged"}
    return next(plan for plan in bank.registry.plans() if plan.epoch == bank.registry.epoch())


def rollbacks(bank: TinyBank, cause: str) -> float | None:
    line = f'mergeprobe_rollbacks_total{{cause="{cause}"}} '
    text = bank.bank.exposition().decode()
    return next((float(found.removeprefix(line)) for found in text.splitlines() if found.startswith(line)), None)


def test_the_table_before_the_plan_is_served_again_in_a_new_epoch_and_stays(bank: TinyBank) -> None:
    plan = merged_pair(bank)
    epoch = bank.registry.epoch()
    back = bank.bank.acts.rollback(plan.id, "anna", "answers got shorter")
    assert (back.state, back.rolls_back) == (PlanState.APPROVED, plan.id)
    for _ in range(3):
        bank.round()
        assert placements(bank) == {"a": "separate", "b": "separate"}
    assert bank.registry.plan(plan.id).state is PlanState.ROLLED_BACK
    done = bank.registry.plan(back.id)
    assert (done.state, done.epoch) == (PlanState.APPLIED, epoch + 1)
    assert rollbacks(bank, "person") == 1
    (event,) = [event for event in bank.registry.events() if event.kind == "rolled_back"]
    assert event.subject == plan.id
    assert event.data["plan"] == back.id
    assert {len(group) for group in event.data["kept_out"]} == {2}
    assert all(replica.resident == bank.registry.table().modules for replica in bank.engine.replicas)


def test_rolling_the_rollback_back_brings_the_merge_back_even_where_its_folder_is_gone(bank: TinyBank) -> None:
    plan = merged_pair(bank)
    module = bank.registry.table().route("a").module
    back = bank.bank.acts.rollback(plan.id, "anna", "")
    bank.round()
    shutil.rmtree(bank.config.store / "modules" / module)
    bank.bank.acts.rollback(back.id, "bert", "it was the prompt")
    for _ in range(2):
        bank.round()
        assert bank.registry.table().route("a").module == module
        assert placements(bank) == {"a": "merged", "b": "merged"}
    assert (bank.config.store / "modules" / module).is_dir()
    assert bank.registry.plan(back.id).state is PlanState.ROLLED_BACK


def test_what_was_removed_or_registered_anew_since_is_left_out_with_a_note(bank: TinyBank) -> None:
    bank.register("gone")
    bank.register("safety", protected=True)
    bank.round()
    plan = merged_pair_of_three(bank)
    bank.bank.registrar.remove("gone", force=False)
    bank.round()
    bank.register("b", seed=1)
    bank.round()
    bank.bank.acts.rollback(plan.id, "anna", "")
    bank.round()
    (event,) = [event for event in bank.registry.events() if event.kind == "rolled_back"]
    assert "gone was removed since" in event.message
    table = bank.registry.table()
    assert "gone" not in placements(bank)
    assert table.route("safety").placement.value == "protected"
    assert table.route("b").revision == bank.registry.adapter("b").revision


def merged_pair_of_three(bank: TinyBank) -> Plan:
    for name in "ab":
        bank.register(name)
    bank.round()
    assert "merged" in placements(bank).values()
    return next(plan for plan in bank.registry.plans() if plan.epoch == bank.registry.epoch())


def test_a_group_does_not_come_back_with_a_member_that_is_protected_by_now(bank: TinyBank) -> None:
    merged_pair(bank)
    bank.register("a", protected=True)
    bank.round()
    apart = bank.registry.plans(limit=1)[0]
    with pytest.raises(StalePlan, match="is being served already"):
        bank.bank.acts.rollback(apart.id, "anna", "")
    bank.round()
    assert placements(bank) == {"a": "protected", "b": "separate"}


def test_a_plan_that_changed_nothing_cannot_be_rolled_back(bank: TinyBank) -> None:
    merged_pair(bank)
    asked = bank.bank.clockwork.ask()
    bank.bank.clockwork._answer([asked.id])
    with pytest.raises(StalePlan, match="changed nothing"):
        bank.bank.acts.rollback(asked.id, "anna", "")
    assert bank.registry.plan(asked.id).state is PlanState.APPLIED


def test_a_plan_is_rolled_back_once(bank: TinyBank) -> None:
    plan = merged_pair(bank)
    bank.bank.acts.rollback(plan.id, "anna", "")
    with pytest.raises(PlanNotOpen, match=r"rolled_back.*only a plan that is applied or failed"):
        bank.bank.acts.rollback(plan.id, "bert", "")


def test_a_plan_of_which_nothing_is_left_cannot_be_rolled_back(bank: TinyBank) -> None:
    bank.register("a")
    bank.round()
    (first,) = bank.registry.plans()
    with pytest.raises(StalePlan, match="is being served already"):
        bank.bank.acts.rollback(first.id, "anna", "")


def test_a_rollback_survives_a_controller_that_dies_before_it(bank: TinyBank) -> None:
    plan = merged_pair(bank)
    back = bank.bank.acts.rollback(plan.id, "anna", "")
    bank.registry.close()
    after = TinyBank(bank.folder)
    after.engine.replicas = bank.engine.replicas
    with after.ticking():
        eventually(lambda: after.registry.plan(back.id).state is PlanState.APPLIED)
    assert placements(after) == {"a": "separate", "b": "separate"}
    after.registry.close()


def test_a_person_s_word_does_not_wait_for_further_measurements(tmp_path: Path) -> None:
    bank = TinyBank(tmp_path, overrides={"policy__max_trials": 9})
    plan = merged_pair(bank)
    for name in "cde":
        bank.register(name)
    measured, honest = list[str](), bank.respond

    def respond(module: str | None, row: object) -> object:
        if not measured:
            bank.bank.acts.rollback(plan.id, "anna", "")
        measured.append(str(module))
        return honest(module, row)  # type: ignore[arg-type]

    bank.engine.respond = respond  # type: ignore[assignment]
    bank.tick()
    assert len({verdict.recipe.members for verdict in bank.registry.verdicts() if len(verdict.recipe.members) > 1}) == 1
    bank.engine.respond = honest
    bank.round()
    together = {route.module for route in bank.registry.table().routes if route.adapter in "ab"}
    assert len(together) == 2
    bank.registry.close()
