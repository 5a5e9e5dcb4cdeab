"""The real engine keeps the contract that the fake one keeps."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from router.registry import Registry
from serve.client import BankClient
from tests.e2e.conftest import DEMO, Server, demo
from tests.engine_contract import check_contract


@pytest.fixture
def fleet(server: Server) -> Iterator[object]:
    ray = pytest.importorskip("ray")
    from ray import serve as ray_serve

    from serve.app import ENGINE_APP, ENGINE_DEPLOYMENT
    from serve.fleet import Fleet

    ray.init(address="auto", namespace="serve", log_to_driver=False)
    yield Fleet(ray_serve.get_deployment_handle(ENGINE_DEPLOYMENT, app_name=ENGINE_APP))
    ray.shutdown()


def test_the_real_engine_keeps_the_contract(server: Server, bank: BankClient, fleet: object) -> None:
    bank.register(demo("math", with_rows=False))
    bank.wait_until_served("math")
    folder = server.root / "contract"
    shutil.copytree(DEMO / "science", folder)
    current = Registry(f"sqlite:///{server.state / 'registry.db'}").table()
    check_contract(fleet, "separate-of-the-contract-test", str(folder), current)
