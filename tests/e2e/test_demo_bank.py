"""The main job on the demo bank: registered at runtime, merged where measurement allows, safety apart."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from probe.bank.tasks import TASKS
from probe.reference import Reference
from probe.retention import standard_error
from probe.rows import Answer, Row, read_rows, split_rows
from probe.scoring import grade_all
from serve.client import BankClient
from serve.demo_bank import demo_folders
from tests.e2e.conftest import DEMO, Server, demo
from tests.e2e.traffic import client, complete

NUM_HTTP_ROWS = 40
PLAN_SECONDS = 1500.0
MAX_PLANS = 6
"""A plan measures one group here; by then one has passed."""


def replan(bank: BankClient) -> dict[str, object]:
    """Ask for a plan and wait until it is carried out."""
    plan = bank.post("/bank/replan", {})
    deadline = time.monotonic() + PLAN_SECONDS
    while plan["state"] in ("pending", "running"):
        assert time.monotonic() < deadline, f"{plan['id']} still runs after {PLAN_SECONDS:.0f} s"
        time.sleep(1)
        plan = bank.get(f"/bank/plans/{plan['id']}")
    assert plan["state"] == "applied", plan["message"]
    return plan


@pytest.fixture
def merged_bank(server: Server, bank: BankClient) -> list[dict[str, object]]:
    """The demo bank after plans that a person asked for: newcomers scored, the groups forecast best measured."""
    names = [folder.name for folder in demo_folders()]
    assert len(names) >= 6
    for name in names:
        bank.register(demo(name))
    for name in names:
        bank.wait_until_served(name)
    for _ in range(MAX_PLANS):
        replan(bank)
        if bank.get("/bank")["slots_saved"]:
            break
    adapters: list[dict[str, object]] = bank.get("/bank/adapters")["adapters"]
    return adapters


def test_the_demo_bank_needs_fewer_modules_than_adapters(
    server: Server, bank: BankClient, merged_bank: list[dict[str, object]]
) -> None:
    state = bank.get("/bank")
    assert state["active_adapters"] < state["registered_adapters"] == len(merged_bank)
    assert state["slots_saved"] == state["registered_adapters"] - state["active_adapters"]

    cards = {card.id: card.model_extra["mergeprobe"] for card in client(server).models.list() if card.parent}
    merged = {name: card for name, card in cards.items() if card["placement"] == "merged"}
    assert len(merged) >= 2
    for name, card in merged.items():
        assert card["measured_retention"] > 0.7, f"{name}: reported rows disagree with the gate"
        assert card["predicted_retention"] is None or math.isfinite(card["predicted_retention"])
    assert cards["safety"]["placement"] == "protected"
    assert all(card["module"] != cards["safety"]["module"] for name, card in cards.items() if name != "safety")

    assert bank.get("/bank/health")["planned"].startswith("by predictor")
    reasons = {adapter["name"]: adapter["reason"] for adapter in merged_bank}
    separate = [name for name, card in cards.items() if card["placement"] == "separate"]
    assert all("to keep " in reasons[name] for name in separate), reasons
    print("\n" + "\n".join([*reversed(_verdicts(bank)), *reasons.values()]))
    assert any(event["kind"] == "merged" for event in bank.get("/bank/events?limit=200")["events"]), "no merge job ran"
    _compare_with_offline(server, cards)


def _verdicts(bank: BankClient) -> list[str]:
    events = bank.get("/bank/events?limit=200")["events"]
    return [event["message"] for event in events if event["kind"] == "verdict"]


def _compare_with_offline(server: Server, cards: dict[str, dict[str, object]]) -> None:
    """Score every name through HTTP, and its module with offline PEFT, on the same rows."""
    reference = Reference(server.base_folder)
    api = client(server)
    for name, card in sorted(cards.items()):
        rows = split_rows(read_rows(DEMO / name / "evaluation.jsonl"))[1][:NUM_HTTP_ROWS]
        online = [outcome.score for outcome in grade_all(rows, _answers(api, name, rows))]
        offline = [
            outcome.score
            for outcome in grade_all(rows, reference.answers(rows, server.module_folder(str(card["module"]))))
        ]
        gap = abs(sum(online) - sum(offline)) / len(rows)
        allowed = 2 * max(standard_error(offline), 1 / math.sqrt(12 * len(rows)))
        print(f"{name}: {sum(online) / len(rows):.3f} through HTTP, {sum(offline) / len(rows):.3f} offline")
        assert gap <= allowed, f"{name}: {gap:.3f} apart, at most {allowed:.3f} is 2 standard errors"


def _answers(api: openai.OpenAI, name: str, rows: Sequence[Row]) -> tuple[Answer, ...]:
    """Let the endpoint answer rows: greedy text, which for a forced row must be the whole answer."""

    def answer(row: Row) -> Answer:
        max_tokens = row.max_tokens if row.scorer == "generated" else 24
        text = complete(api, name, row.prompt, max_tokens=max_tokens).text
        return Answer(text=text) if row.scorer == "generated" else Answer(text == row.answer, 0.0)

    with ThreadPoolExecutor(8) as pool:
        return tuple(pool.map(answer, rows))


def test_the_demo_covers_every_domain() -> None:
    assert {folder.name.partition("-")[0] for folder in demo_folders()} == set(TASKS)
