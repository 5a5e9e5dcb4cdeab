"""vLLM's own two routes, `load_lora_adapter` and `unload_lora_adapter`, backed by the registry."""

from __future__ import annotations

import json

import pytest
from starlette.testclient import TestClient

from serve import registrar
from serve.admin import drop_in
from tests.serve.bank import TinyBank, eventually


def load(bank: TinyBank, **fields: object) -> tuple[int, str | dict[str, object]]:
    return drop_in(bank.bank, "load_lora_adapter", json.dumps(fields).encode())


def unload(bank: TinyBank, **fields: object) -> tuple[int, str | dict[str, object]]:
    return drop_in(bank.bank, "unload_lora_adapter", json.dumps(fields).encode())


def test_loading_returns_when_the_adapter_is_served_and_unloading_when_it_is_gone(
    ticking: TinyBank, client: TestClient
) -> None:
    source = str(ticking.source("a"))
    answer = load(ticking, lora_name="a", lora_path=source, load_inplace=False)
    assert answer == (200, "Success: LoRA adapter 'a' added successfully.")
    assert client.get("/bank/adapters/a").json()["state"] == "serving"
    assert ticking.registry.table().route("a").placement == "separate", "it brought no evaluation rows"
    assert load(ticking, lora_name="a", lora_path=source)[0] == 200, "again is no error"
    answer = unload(ticking, lora_name="a", lora_int_id=1)
    assert answer == (200, "Success: LoRA adapter 'a' removed successfully.")
    assert ticking.registry.adapters() == ()
    eventually(lambda: not any(replica.resident for replica in ticking.engine.replicas))


@pytest.mark.parametrize(
    ("verb", "body", "status", "param"),
    [
        ("load_lora_adapter", b"{", 400, None),
        ("load_lora_adapter", b"[]", 400, None),
        ("load_lora_adapter", b'{"lora_name": "a"}', 400, None),
        ("load_lora_adapter", b'{"lora_name": 5, "lora_path": "/etc"}', 400, None),
        ("load_lora_adapter", b'{"lora_name": "a/b", "lora_path": "/etc"}', 400, "lora_name"),
        ("load_lora_adapter", b'{"lora_name": "a", "lora_path": "/etc"}', 400, "lora_path"),
        ("unload_lora_adapter", b"[" * 9999, 400, None),
        ("unload_lora_adapter", b'{"lora_name": ["a"]}', 400, None),
        ("unload_lora_adapter", b'{"lora_name": "ghost"}', 404, None),
        ("unload_lora_adapter", b'{"lora_name": "safety"}', 409, "force"),
    ],
)
def test_a_refused_drop_in_changes_nothing(
    bank: TinyBank, verb: str, body: bytes, status: int, param: str | None
) -> None:
    bank.register("safety", protected=True)
    before = bank.state()
    answered, envelope = drop_in(bank.bank, verb, body)
    assert answered == status, envelope
    assert isinstance(envelope, dict)
    assert envelope["error"]["param"] == param
    assert bank.state() == before


def test_loading_an_adapter_that_the_engine_refuses_is_422(ticking: TinyBank) -> None:
    honest = ticking.respond
    ticking.engine.respond = lambda module, row: honest(None, row)  # nothing that is loaded changes an answer
    status, envelope = load(ticking, lora_name="a", lora_path=str(ticking.source("a")))
    assert (status, envelope["error"]["code"]) == (422, "refused_by_engine")
    assert "answers exactly as the base does" in envelope["error"]["message"]


def test_waiting_ends_with_503_when_nothing_comes_of_it(bank: TinyBank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registrar, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(registrar, "POLL_SECONDS", 0.0)
    status, envelope = load(bank, lora_name="a", lora_path=str(bank.source("a")))
    assert (status, envelope["error"]["code"]) == (503, "not_ready")
    assert bank.client().get("/bank/adapters/a").json()["state"] == "pending", "it is registered all the same"
    status, envelope = unload(bank, lora_name="a")
    assert (status, envelope["error"]["code"]) == (503, "not_ready")
