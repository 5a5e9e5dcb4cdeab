"""The real engine keeps the contract that the fake one keeps."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

from serve.client import BankClient
from tests.e2e.conftest import DEMO, Server, clean_environment, demo


def test_the_real_engine_keeps_the_contract(server: Server, bank: BankClient) -> None:
    bank.register(demo("math", with_rows=False))
    bank.wait_until_served("math")
    folder = server.root / "contract"
    shutil.copytree(DEMO / "science", folder)
    address = re.search(r"Ray is at (\S+)", server.log.read_text())
    assert address
    registry = f"sqlite:///{server.state / 'registry.db'}"
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.contract_process", address[1], registry, folder],
        # A Ray that starts itself asks for its token; who joins has to be told to show it.
        env={**clean_environment(), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
