"""`mergeprobe approve`, `reject` and `rollback` on a bank in mode `approve`, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from router.records import PlanState
from serve.cli import app
from serve.client import BankError
from tests.serve.bank import TinyBank, eventually


@pytest.fixture
def bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TinyBank]:
    bank = TinyBank(tmp_path, overrides={"policy__mode": "approve"})
    for name in "ab":
        bank.register(name)
    bank.round()
    with bank.ticking(), bank.over_http() as url:
        monkeypatch.setenv("MERGEPROBE_URL", url)
        monkeypatch.setenv("MERGEPROBE_BY", "anna")
        monkeypatch.setenv("COLUMNS", "200")
        yield bank
    bank.registry.close()


def run(*words: str) -> str:
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def run_json(*words: str) -> Any:
    return json.loads(run(*words, "--json"))


def events(bank: TinyBank) -> list[tuple[str, object, object]]:
    found = [event for event in bank.registry.events() if event.kind in ("approved", "rejected", "rolled_back")]
    return [(event.kind, event.data["by"], event.data["reason"]) for event in found]


def test_a_plan_is_approved_and_rolled_back(bank: TinyBank) -> None:
    plan = bank.waiting()
    assert plan.id in run("plan", "--apply")
    done = run_json("approve", plan.id, "--reason", "looked at it")
    assert (done["id"], done["state"]) == (plan.id, "applied")
    assert {decision["placement"] for decision in done["decisions"]} == {"merged"}
    back = run("rollback", plan.id, "--by", "bert", "--reason", "shorter answers")
    assert "applied" in back
    assert f"It went back behind {plan.id}" in back
    assert events(bank) == [("rolled_back", "bert", "shorter answers"), ("approved", "anna", "looked at it")]


def test_a_plan_is_rejected(bank: TinyBank) -> None:
    plan = bank.waiting()
    assert run_json("reject", plan.id)["state"] == "rejected"
    assert events(bank) == [("rejected", "anna", "")]
    eventually(lambda: bank.registry.plan(plan.id).state is PlanState.REJECTED)


def test_what_cannot_be_done_is_told(bank: TinyBank) -> None:
    plan = bank.waiting()
    bank.register("a", seed=1)
    with pytest.raises(BankError, match=rf"{plan.id} cannot be approved.*mergeprobe plans"):
        run("approve", plan.id)
    with pytest.raises(BankError, match="No plan has the id 'plan-9'"):
        run("reject", "plan-9")


def test_a_preview_tells_who_would_move_and_what_that_costs_and_keeps(bank: TinyBank) -> None:
    told = run("plan")
    module = bank.registry.module_of(next(d.recipe.key for d in bank.waiting().decisions if d.recipe))
    assert module is not None
    assert f"would move a: {bank.registry.table().route('a').module} -> {module.name} with b" in told
    assert "now: 2 modules, cost 1, macro retention 1.00 (by construction)" in told
    assert "then: 1 modules, cost 0.5, macro retention 1.00 (measured)" in told


def test_waiting_plans_are_listed_as_such(bank: TinyBank) -> None:
    assert "waiting" in run("plans")
    assert "waits for a person" in run("plan", "--apply")
