"""Who measured when: one line a run of the command, from which the records' facts follow."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from probe.bank.labelling.journal import Journal, JournalError
from probe.bank.records import Facts
from probe.features import SCHEMA_VERSION

SESSIONS_FILE = "sessions.jsonl"
PILOT_FILE = "pilot.json"


@dataclass(frozen=True, slots=True)
class Session:
    """One run of the command.

    Attributes
    ----------
    date
        ISO.
    command, hardware, versions
        As in `probe.bank.records.Facts`.
    """

    date: str
    command: str
    hardware: str
    versions: dict[str, str]


class Sessions:
    """All runs so far."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._journal = folder, Journal(folder / SESSIONS_FILE)

    def begin(self, session: Session) -> None:
        """Write down that a run begins, unless the latest one was the same."""
        if asdict(session) not in list(self._journal)[-1:]:
            self._journal.append(asdict(session))

    def facts(self, bank: str, base_model: str, pilot: Path) -> Facts:
        """Return how all was made, with the pilot gate's table where a file holds one.

        Raises
        ------
        JournalError
            There was no run.
        """
        runs = [Session(**fields) for fields in self._journal]
        if not runs:
            raise JournalError(
                f"{self._folder} holds no measurements yet; label the bank first (mergeprobe bank label)."
            )
        versions = {name: seen for run in runs for name, seen in run.versions.items()}
        return Facts(
            bank=bank,
            feature_schema=SCHEMA_VERSION,
            base_model=base_model,
            hardware="; ".join(dict.fromkeys(run.hardware for run in runs)),
            first_date=min(run.date for run in runs),
            last_date=max(run.date for run in runs),
            commands=tuple(dict.fromkeys(run.command for run in runs)),
            versions=versions,
            pilot=tuple(json.loads(pilot.read_text(encoding="utf-8"))) if pilot.is_file() else (),
        )
