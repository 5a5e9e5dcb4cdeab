"""Label a bank: measure what is missing, and write records of all there is."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from probe.adapter_io import read_config
from probe.bank.data_card import data_card
from probe.bank.gate import GateError, pilot_gate
from probe.bank.labelling.feature_rows import FeatureJournal, measure_features
from probe.bank.labelling.labels import LabelJournal, measure_labels
from probe.bank.labelling.measurement import Stage
from probe.bank.labelling.members import Member, read_bank
from probe.bank.labelling.pool import Progress, pool
from probe.bank.labelling.sessions import PILOT_FILE, Session, Sessions
from probe.bank.labelling.workplace import Workplace
from probe.bank.record_files import write_records, write_text
from probe.bank.records import Records

FEATURES = "features"
PARTS: tuple[str, ...] = (*Stage, FEATURES)
"""What can be asked for: the stages of the plan, and features."""
CARD_FILE = "README.md"


def label_bank(
    place: Workplace,
    out: Path,
    bank_name: str,
    session: Session,
    *,
    jobs: int = 1,
    only: Collection[str] = PARTS,
    on_progress: Progress = lambda _doing, _done, _total: None,
) -> Records:
    """Measure what the journals lack, and write records of everything that was measured so far.

    The journals survive the end of the process at any time, and nothing is measured twice. The records are written
    when the work ends, also when it ends by an exception; calling with nothing left to do writes them again.

    Parameters
    ----------
    out
        Folder of the records.
    bank_name
        For the records' facts.
    jobs
        Processes; 1 is this one, more have one thread each. The records do not depend on it.
    only
        Names of `PARTS`.

    Raises
    ------
    BankError, JournalError
        The bank or a journal is damaged.
    """
    members = read_bank(place.bank)
    sessions = Sessions(place.work)
    sessions.begin(session)
    stages = [stage for stage in Stage if stage in only]
    try:
        with pool(jobs) as workers:
            if stages:
                measure_labels(place, members, workers, on_progress, stages)
            if FEATURES in only:
                labels = LabelJournal(place, members).labels()
                measure_features(place, members, labels, workers, on_progress)
    finally:
        records = _gated(place, _gathered(place, members, sessions, bank_name))
        write_records(out, records)
        write_text(out / CARD_FILE, data_card(records))
    return records


def _gathered(place: Workplace, members: Mapping[str, Member], sessions: Sessions, bank_name: str) -> Records:
    features = FeatureJournal(place, members)
    return Records(
        facts=sessions.facts(bank_name, _base_model(members.values()), place.bank / PILOT_FILE),
        adapters=tuple(member.record for member in members.values()),
        labels=LabelJournal(place, members).labels(),
        adapter_features=features.of_adapters(),
        pair_features=features.of_pairs(),
    )


def _gated(place: Workplace, records: Records) -> Records:
    """Add the gate's table to the records of a pilot, and keep it beside the bank, for the large bank's data card."""
    if not place.spec.is_pilot:
        return records
    try:
        table = tuple(row.as_json() for row in pilot_gate(records))
    except GateError:  # stopped before there was enough to judge
        return records
    write_text(place.bank / PILOT_FILE, json.dumps(table, indent=2) + "\n")
    return replace(records, facts=replace(records.facts, pilot=table))


def _base_model(members: Iterable[Member]) -> str:
    names = {read_config(member.folder).base_name or "unknown" for member in members}
    return ", ".join(sorted(names))
