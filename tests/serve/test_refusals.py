"""What a bank refuses over HTTP, and that a refusal changes nothing at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from serve.errors import TYPES
from tests import tiny
from tests.serve.bank import TinyBank
from tests.serve.refusals import CASES, NAME, Refusal, copied, post


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyBank]:
    """One bank for all cases, which serves something: no case may change it, so none can disturb another."""
    bank = TinyBank(tmp_path_factory.mktemp("bank"), overrides={"engine__max_lora_rank": 16})
    bank.register("kept")
    bank.tick()
    yield bank
    bank.registry.close()


@pytest.fixture(scope="module")
def client(bank: TinyBank) -> TestClient:
    return bank.client()


@pytest.fixture(scope="module")
def good(bank: TinyBank) -> Path:
    return tiny.write_adapter(bank.folder / "good", seed=7)


@pytest.fixture
def sources(bank: TinyBank, tmp_path: Path) -> Path:
    folder = bank.folder / tmp_path.name
    folder.mkdir()
    return folder


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_refusal_says_why_and_changes_nothing(
    bank: TinyBank, client: TestClient, good: Path, sources: Path, case: Refusal
) -> None:
    before = bank.state()
    assert before["orders"], "the bank serves something"
    answer = client.post("/bank/adapters", **post(case.prepare(sources, good)))
    assert answer.status_code == case.status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error"}
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"], error["code"]) == (TYPES[case.status], case.param, case.code)
    assert len(error["message"]) > 15
    assert "staging" not in error["message"], "clients cannot see staging"
    assert bank.state() == before
    assert client.get(f"/bank/adapters/{NAME}").status_code == 404


def test_the_unbroken_copy_would_be_taken(tmp_path: Path) -> None:
    bank = TinyBank(tmp_path)
    good = tiny.write_adapter(tmp_path / "good")
    answer = bank.client().post("/bank/adapters", **post(copied(tmp_path / "sources", good)))
    bank.registry.close()
    assert answer.status_code == 201, answer.text


def test_a_body_that_is_no_text_is_refused_in_the_envelope(bank: TinyBank, client: TestClient) -> None:
    before = bank.state()
    for body in (
        b'{"name": "a", "source": "b", "\\ud800": 1}',
        b'{"name": "\\ud800", "source": "b"}',
        b"\xff",
        b"[" * 9999,
    ):
        answer = client.post("/bank/adapters", **post(body))
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "invalid_request_error"
    assert bank.state() == before


def test_without_a_root_every_local_source_is_refused(tmp_path: Path) -> None:
    bank = TinyBank(tmp_path, overrides={"intake__roots": ()})
    folder = tiny.write_adapter(tmp_path / "good")
    answer = TestClient(bank.client().app).post("/adapters", json={"name": "a", "source": str(folder)})
    bank.registry.close()
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "forbidden_source")
