"""The timer alone, under traffic: nobody asks for a plan."""

from __future__ import annotations

import time
from collections.abc import Callable

from serve.client import BankClient
from tests.e2e.conftest import Server, demo
from tests.e2e.traffic import steady_traffic

WAIT_SECONDS = 900.0


def wait_for(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_SECONDS:.0f} s: {what}"
        time.sleep(0.5)


def test_the_timer_merges_registers_renews_and_removes(server: Server, bank: BankClient) -> None:
    def placement(name: str) -> str | None:
        placed: str | None = bank.get(f"/bank/adapters/{name}")["placement"]
        return placed

    bank.register(demo("a", "science"))
    bank.register(demo("b", "science-elements"))
    for name in "ab":
        bank.wait_until_served(name)

    with steady_traffic(server, ["a"]) as traffic:
        wait_for("a and b share a module", lambda: (placement("a"), placement("b")) == ("merged", "merged"))
        merged = bank.get("/bank/adapters/a")["module"]

        bank.register(demo("c", "math", with_rows=False))
        assert bank.wait_until_served("c")["placement"] == "separate"

        before = bank.get("/bank/adapters/a")["revision"]
        bank.register(demo("a", "code", with_rows=False))
        renewed = bank.wait_until_served("a")
        assert renewed["served_revision"] == renewed["revision"] != before
        assert renewed["placement"] == "separate"
        wait_for("b is on its own again", lambda: placement("b") == "separate")

        bank.delete("/bank/adapters/b")
        bank.wait_until_gone("b")
        wait_for("traffic on the new revision", lambda: traffic.replies[-1].module == renewed["module"])

    assert traffic.failures == []
    assert {reply.models for reply in traffic.replies} == {frozenset({"a"})}
    assert merged in {reply.module for reply in traffic.replies}
    assert [adapter["name"] for adapter in bank.get("/bank/adapters")["adapters"]] == ["a", "c"]
    assert bank.get("/bank/health")["status"] == "ok"
