"""Every refusal against the live bank, under traffic: nothing is registered, nothing flips, nobody notices."""

from __future__ import annotations

import httpx

from serve.client import BankClient
from tests.e2e.conftest import ADMIN_KEY, DEMO, Server, demo
from tests.e2e.traffic import steady_traffic
from tests.serve.refusals import CASES, post


def test_every_refusal_changes_nothing_and_disturbs_nobody(server: Server, bank: BankClient) -> None:
    bank.register(demo("math", with_rows=False))
    bank.wait_until_served("math")
    before = bank.get("/bank")
    wrong = []
    keyed = {"Authorization": f"Bearer {ADMIN_KEY}"}
    with (
        httpx.Client(base_url=server.url, headers=keyed, timeout=60) as api,
        steady_traffic(server, ["math"], num_clients=1) as traffic,
    ):
        for case in CASES:
            folder = server.root / case.id
            folder.mkdir()
            answer = api.post("/bank/adapters", **post(case.prepare(folder, DEMO / "math")))
            error = answer.json().get("error", {})
            seen = (answer.status_code, error.get("param"), error.get("code"))
            if seen != (case.status, case.param, case.code) or set(error) != {"message", "type", "param", "code"}:
                wrong.append(f"{case.id}: {answer.status_code} {answer.text[:300]}")
    assert len(CASES) >= 20
    assert wrong == []
    assert bank.get("/bank") == before
    assert traffic.failures == []
    assert len(traffic.replies) >= 3
