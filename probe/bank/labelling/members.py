"""The members of a bank, read from its folder: their records without their tensors, and where the rest lies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probe.adapter_io import CONFIG_FILE, revision_of
from probe.bank.adapter_folder import BUNDLE_FOLDER, EVALUATION_FILE, RECORD_FILE
from probe.bank.records import AdapterRecord
from probe.records import MergeProbeError
from probe.rows import CALIBRATION_FILE

_SAME_NAME = ("name", "domain", "mix", "method", "group", "minutes", "command", "device", "precision", "versions")


class BankError(MergeProbeError):
    """A folder is no bank, or holds an adapter without its record or rows."""


@dataclass(frozen=True, slots=True)
class Member:
    """An adapter of the bank and its folder."""

    record: AdapterRecord
    folder: Path

    def __hash__(self) -> int:
        # The record holds a mapping of versions, which has no hash of its own.
        return hash((self.record.revision, self.folder))

    @property
    def name(self) -> str:
        """The adapter's name; names differ within a bank."""
        return self.record.name

    @property
    def evaluation(self) -> Path:
        """Its evaluation rows."""
        return self.folder / EVALUATION_FILE

    @property
    def calibration(self) -> Path:
        """Its calibration rows."""
        return self.folder / CALIBRATION_FILE

    @property
    def bundle(self) -> Path | None:
        """What its training left behind for forecasts, if anything."""
        folder = self.folder / BUNDLE_FOLDER
        return folder if folder.is_dir() else None


def read_bank(folder: Path) -> dict[str, Member]:
    """Read the adapters of a bank's folder, by name, ascending.

    Raises
    ------
    BankError
        There is no adapter, two have one name, or one lacks its record or rows.
    AdapterError
        An adapter's files are damaged.
    """
    places = sorted(path.parent for path in folder.glob(f"*/{CONFIG_FILE}"))
    members = [read_member(place) for place in places if not place.name.startswith(".")]
    by_name = {member.name: member for member in members}
    if not members or len(by_name) < len(members):
        raise BankError(
            f"Found {len(members)} adapters with {len(by_name)} names in {folder}; expected one or "
            "more, each with its own name: build a bank first (mergeprobe bank build)."
        )
    return dict(sorted(by_name.items()))


def read_member(folder: Path) -> Member:
    """Read one adapter of a bank.

    Raises
    ------
    BankError
        Its record or rows are missing or damaged.
    """
    try:
        fields = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
        record = _record(fields, revision_of(folder), row_set_of(folder / EVALUATION_FILE))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BankError(f"{folder} is no adapter of a bank ({error!r}); build it again, or move it away.") from error
    return Member(record, folder)


def row_set_of(path: Path) -> str:
    """Return the content hash of a file of evaluation rows."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _record(fields: Mapping[str, Any], revision: str, row_set: str) -> AdapterRecord:
    identity = fields["identity"]
    training = identity["recipe"]["training"]
    return AdapterRecord(
        **{name: fields[name] for name in _SAME_NAME},
        **{name: training[name] for name in ("rank", "modules", "alpha", "learning_rate", "num_rows", "replay")},
        **{name: identity[name] for name in ("a_seed", "data_seed")},
        num_tokens=fields["tokens_trained"],
        num_steps=fields["steps"],
        is_protected=fields["protected"],
        revision=revision,
        row_set=row_set,
    )
