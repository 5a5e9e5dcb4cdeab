"""The real engine under the plans of a proof: every module of theirs, asked the rows that no label was measured on."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from probe.bank.labelling.journal import Journal, entries_of
from probe.bank.labelling.members import Member, read_bank
from probe.progress import OnProgress, silent
from probe.rows import Row, read_rows
from router.records import BASE, Recipe
from serve.config import Config
from serve.engine_arguments import engine_env, engine_kwargs
from serve.merging import merge_files
from serve.proof.contest import Plan
from serve.proof.recorded_bank import ProofError, RecordedBank, merged_module, separate_name

DOING = "rows asked of the engine"

Question = tuple[str, str]
"""A module, and the adapter whose rows it is asked."""
Known = dict[Question, tuple[float, ...]]


class Engine(Protocol):
    """Anything that loads modules and answers rows."""

    def scores(self, module: str, folder: Path | None, rows: Sequence[Row]) -> tuple[float, ...]:
        """Return what a module scores on rows; `folder` is its PEFT folder, None the base."""
        ...


def vllm_engine(base: Path, rank: int) -> Engine:
    """Start vLLM in this process, as `mergeprobe serve` would, for modules up to a rank."""
    config = Config.model_validate({"base": {"path": str(base)}, "engine": {"max_lora_rank": rank}})
    os.environ.update(engine_env(config))
    from serve.offline_engine import OfflineEngine  # vLLM reads the environment when it is imported

    return OfflineEngine(base, engine_kwargs(config, base))


def served_scores(
    bank: RecordedBank,
    plans: Collection[Plan],
    folder: Path,
    journal: Path,
    start: Callable[[], Engine],
    on_progress: OnProgress = silent,
) -> Known:
    """Serve every module of some plans with vLLM and return (module, adapter) -> scores of the rows left.

    Parameters
    ----------
    folder
        The bank's adapters.
    journal
        What was asked already is read from there, and everything new appended: a stopped run goes on.
    start
        Starts the engine, if there is anything left to ask.

    Raises
    ------
    ProofError
        The folder holds other adapters than the records, or the journal is of others.
    JournalError
        The journal is damaged.
    """
    members = _members(bank, folder)
    rows = {name: _rows_left(bank, name, member) for name, member in members.items()}
    modules = {merged_module(recipe).name: recipe for plan in plans for recipe in plan}
    answers = Journal(journal)
    known = read_scores(bank, journal)
    if not journal.stat().st_size:
        answers.append(_identity(bank))
    missing = [question for question in questions(bank, plans) if question not in known]
    on_progress(DOING, 0, len(missing))
    engine = start() if missing else None
    for done, (module, name) in enumerate(missing, 1):
        path = _module_folder(module, members, modules.get(module), journal.parent / "modules")
        assert engine is not None
        known[module, name] = engine.scores(module, path, rows[name])
        answers.append({"module": module, "rows": name, "scores": known[module, name]})
        on_progress(DOING, done, len(missing))
    return known


def questions(bank: RecordedBank, plans: Iterable[Plan]) -> list[Question]:
    """Return what must be asked: base and adapter alone, members of merges, and the protected rows of everybody."""
    names = [adapter.name for adapter in bank.adapters]
    asked = [(module, name) for name in names for module in (BASE, separate_name(name))]
    asked += [(separate_name(name), guest) for name in names for guest in bank.guests]
    for recipe in (recipe for plan in plans for recipe in plan):
        asked += [(merged_module(recipe).name, name) for name in (*recipe.members, *bank.guests)]
    return list(dict.fromkeys(asked))


def read_scores(bank: RecordedBank, journal: Path) -> Known:
    """Return what was asked so far; nothing where there is no journal.

    Raises
    ------
    ProofError
        Other adapters answered, or other rows.
    JournalError
        A line is damaged.
    """
    found = list(entries_of(journal)) if journal.exists() else []
    if found and found[0] != _identity(bank):
        raise ProofError(f"{journal} holds answers of other adapters, or of other rows; name another folder by --out.")
    return {(one["module"], one["rows"]): tuple(one["scores"]) for one in found[1:]}


def _identity(bank: RecordedBank) -> dict[str, object]:
    """Return what answers depend on beside module and rows by name: the first line of a journal."""
    adapters = {one.name: [one.revision, one.row_set, _num_asked(bank, one.name)] for one in bank.records.adapters}
    return {"base": bank.records.facts.base_model, "adapters": adapters}


def _num_asked(bank: RecordedBank, name: str) -> int:
    """Return how many of an adapter's evaluation rows labels were measured on: the first ones."""
    return max(label.num_rows for label in (*bank.records.labels, *bank.records.guests) if label.adapter == name)


def _members(bank: RecordedBank, folder: Path) -> dict[str, Member]:
    members = read_bank(folder)
    for record in bank.records.adapters:
        found = members.get(record.name)
        if found is None or (found.record.revision, found.record.row_set) != (record.revision, record.row_set):
            raise ProofError(
                f"{folder} does not hold {record.name} as it was measured; expected the bank that the records are of: "
                "build it again (mergeprobe bank build --preset held-out)."
            )
    return {record.name: members[record.name] for record in bank.records.adapters}


def _rows_left(bank: RecordedBank, name: str, member: Member) -> tuple[Row, ...]:
    """Return the evaluation rows after those that the labels were measured on."""
    left = read_rows(member.evaluation)[_num_asked(bank, name) :]
    if not left:
        raise ProofError(f"{name} has no evaluation rows beyond those that it was measured on; build it with more.")
    return left


def _module_folder(module: str, members: Mapping[str, Member], recipe: Recipe | None, modules: Path) -> Path | None:
    """Return the PEFT folder of a module, which is built if it is not there; None is the base."""
    if recipe is None:
        return {separate_name(name): member.folder for name, member in members.items()}.get(module)
    target = modules / module
    if not target.exists():
        modules.mkdir(parents=True, exist_ok=True)
        partial = modules / f".{module}"
        merge_files([members[name].folder for name in recipe.members], recipe, "", partial)
        partial.rename(target)
    return target
