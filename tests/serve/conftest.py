from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.serve.bank import TinyBank


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[TinyBank]:
    bank = TinyBank(tmp_path)
    yield bank
    bank.registry.close()


@pytest.fixture
def client(bank: TinyBank) -> TestClient:
    return bank.client()


@pytest.fixture
def ticking(bank: TinyBank) -> Iterator[TinyBank]:
    with bank.ticking():
        yield bank
