"""Label a bank: measure what is missing, and write records of all there is."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from transformers import AutoConfig

from probe.bank.data_card import data_card
from probe.bank.gate import GateError, pilot_gate
from probe.bank.labelling.feature_journal import FeatureJournal
from probe.bank.labelling.feature_rows import measure_features
from probe.bank.labelling.labels import LabelJournal, measure_labels
from probe.bank.labelling.measurement import Stage
from probe.bank.labelling.members import Member, read_bank
from probe.bank.labelling.pool import pool
from probe.bank.labelling.sessions import PILOT_FILE, Session, Sessions
from probe.bank.labelling.workplace import Workplace
from probe.bank.record_files import write_records, write_text
from probe.bank.records import Facts, Records, apart_from_guests
from probe.base_model import read_base_shapes
from probe.progress import OnProgress, silent

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
    on_progress: OnProgress = silent,
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
    BankError, JournalError, BaseModelError
        The bank, a journal or the base model is damaged, or nothing is to be measured and nothing was.
    """
    members, stages = read_bank(place.bank), [stage for stage in Stage if stage in only]
    facts = _facts(place, bank_name, session, begins=bool(stages) or FEATURES in only)
    labels, features = LabelJournal(place, members), FeatureJournal(place, members)
    try:
        with pool(jobs) as workers:
            if stages:
                measure_labels(place, members, labels, workers, on_progress, stages)
            if FEATURES in only:
                measure_features(place, members, features, labels.labels(), workers, on_progress)
    finally:
        records = _gated(place, _records(facts, members, labels, features))
        write_records(out, records)
        write_text(out / CARD_FILE, data_card(records))
    return records


def _facts(place: Workplace, bank_name: str, session: Session, begins: bool) -> Facts:
    """Return how all was measured, by this run, if it measures anything, and those before it."""
    sessions = Sessions(place.work)
    if begins:
        sessions.begin(session)
    return sessions.facts(bank_name, _base_model(place.base), place.bank / PILOT_FILE)


def _records(facts: Facts, members: Mapping[str, Member], labels: LabelJournal, features: FeatureJournal) -> Records:
    measured, guests = apart_from_guests(labels.labels())
    return Records(
        facts=facts,
        adapters=tuple(member.record for member in members.values()),
        labels=measured,
        guests=guests,
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


def _base_model(folder: Path) -> str:
    """Return what the base model's files say of it; the name that adapters give is the trainer's, not this folder's."""
    config = AutoConfig.from_pretrained(folder)
    weights = sum(height * width for height, width in read_base_shapes(folder, folder.name).modules.values())
    return (
        f"{folder.resolve().name} ({config.model_type}, {config.num_hidden_layers} layers of width "
        f"{config.hidden_size}, {weights:,} weights)"
    )
