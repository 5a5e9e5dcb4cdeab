"""Registering the demo bank that is shipped with the package."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import probe.bank
from probe.rows import CALIBRATION_FILE
from serve.client import BankClient
from serve.config import Config

FOLDER = Path(probe.bank.__file__).parent / "data" / "demo"


def register(config: Config, progress: Callable[[str], None]) -> None:
    """Register every demo adapter and return when all of them are served.

    Raises
    ------
    BankError
        If the bank refuses one.
    """
    with BankClient(config.server.url, config.server.admin_key) as client:
        names = [client.register(demo_body(folder))["name"] for folder in demo_folders()]
        for number, name in enumerate(names, 1):
            adapter = client.wait_until_served(name)
            progress(f"[{number}/{len(names)}] {name} is served by {adapter['module']}")


def demo_folders() -> list[Path]:
    """Return the demo adapters' folders, by name."""
    return sorted(file.parent for file in FOLDER.glob("*/record.json"))


def demo_body(folder: Path) -> dict[str, object]:
    """Return the body of `POST /bank/adapters` for one demo adapter."""
    record = json.loads((folder / "record.json").read_text())
    return {
        "name": record["name"],
        "source": str(folder),
        "domain": record["domain"],
        "protected": record["protected"],
        "calibration": str(folder / CALIBRATION_FILE),
        "evaluation": str(folder / "evaluation.jsonl"),
    }
