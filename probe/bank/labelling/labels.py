"""Measure the labels of a bank: what the plan asks and the journal does not hold yet."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

from probe.bank.ceilings import RowSet, row_set
from probe.bank.labelling.entry import Entry
from probe.bank.labelling.follow_up import closer, further, reworked
from probe.bank.labelling.journal import Journal
from probe.bank.labelling.labeller import measure
from probe.bank.labelling.measurement import Measurement, Stage
from probe.bank.labelling.members import Member
from probe.bank.labelling.plan import planned
from probe.bank.labelling.pool import Call, Pool
from probe.bank.labelling.workplace import Workplace
from probe.bank.measuring import Answered
from probe.bank.records import Label
from probe.operators import OPERATORS
from probe.progress import OnProgress

JOURNAL_FILE = "labels.jsonl"


@dataclass(frozen=True, slots=True)
class OwnAnswers:
    """What the base and the adapter alone make of the adapter's rows."""

    base: Answered
    single: Answered


class LabelJournal:
    """The labels measured so far, without those of adapters that have changed since, or of another output rank."""

    def __init__(self, place: Workplace, members: Mapping[str, Member]) -> None:
        self._journal = Journal(place.work / JOURNAL_FILE)
        self._members, self._rank = members, place.spec.rank
        self.entries: dict[Measurement, Entry] = {}
        for fields in self._journal:
            self._keep(Entry.from_json(fields))

    def append(self, entry: Entry) -> None:
        """Keep an entry, on disk first."""
        self._journal.append(entry.as_json())
        self._keep(entry)

    def _keep(self, entry: Entry) -> None:
        if entry.rank == self._rank and entry.is_about(self._members):
            self.entries[entry.measurement] = entry

    def first_labels(self) -> dict[Measurement, tuple[Label, ...]]:
        """Return the labels of every module on the rows that are always asked."""
        return self._labels(self._first())

    def labels(self) -> tuple[Label, ...]:
        """Return a label for each adapter that a module was asked the rows of, in an order of their own."""
        labels = self._labels({asked: self._whole(entry) for asked, entry in self._first().items()}).values()
        return tuple(sorted((label for some in labels for label in some), key=_order))

    def _first(self) -> dict[Measurement, Entry]:
        return {asked: entry for asked, entry in self.entries.items() if not asked.is_further}

    def _whole(self, entry: Entry) -> Entry:
        """Return the entry with the answers to further rows, where those were asked."""
        answers = dict(entry.answers)
        for name in answers:
            more = self.entries.get(further(replace(entry.measurement, asked=(name,))))
            if more is not None:
                answers[name] += more.answers[name]
        return replace(entry, answers=answers)

    def _labels(self, entries: Mapping[Measurement, Entry]) -> dict[Measurement, tuple[Label, ...]]:
        own = self._own(entries)
        return {
            asked: tuple(_label(entry, name, own[name]) for name in asked.asked if name in own)
            for asked, entry in entries.items()
            if asked.members
        }

    def _own(self, entries: Mapping[Measurement, Entry]) -> dict[str, OwnAnswers]:
        """Return what base and adapter alone make of each adapter's rows, where both were asked."""
        bases: dict[RowSet, Answered] = {}
        singles: dict[str, Answered] = {}
        for asked, entry in entries.items():
            if not asked.members:
                bases[row_set(self._members[asked.asked[0]].record)] = entry.answers[asked.asked[0]]
            elif asked.members == asked.asked and len(asked.members) == 1:
                singles[asked.members[0]] = entry.answers[asked.members[0]]
        sets = {name: row_set(member.record) for name, member in self._members.items()}
        return {name: OwnAnswers(bases[sets[name]], one) for name, one in singles.items() if sets[name] in bases}


def measure_labels(
    place: Workplace,
    members: Mapping[str, Member],
    journal: LabelJournal,
    pool: Pool,
    on_progress: OnProgress,
    only: Collection[Stage] = tuple(Stage),
) -> None:
    """Measure what the journal lacks.

    The base and the adapters alone come first, whatever `only` says: every label needs them. Conflicts can be reworked
    only once they are known, and more rows asked only where a verdict was seen to be close, so these come last.
    """
    records = [member.record for member in members.values()]
    everything = planned(records, place.spec)
    work = partial(_measure, place, members, pool, journal, on_progress)
    work("the adapters alone", _of(everything, {Stage.OWN}))
    work("merges", _of(everything, set(only) - {Stage.OWN}))
    if Stage.REWORKED in only:
        first = chain.from_iterable(journal.first_labels().values())
        work("other recipes", reworked(first, records, place.spec))
    if Stage.CLOSER in only:
        work("further rows", closer(journal.first_labels(), records, place.spec))


def _of(measurements: Iterable[Measurement], stages: Collection[Stage]) -> list[Measurement]:
    return [measurement for measurement in measurements if measurement.stage in stages]


def _measure(
    place: Workplace,
    members: Mapping[str, Member],
    pool: Pool,
    journal: LabelJournal,
    on_progress: OnProgress,
    doing: str,
    measurements: Sequence[Measurement],
) -> None:
    """Measure what the journal lacks; an adapter's rows are the unit of progress."""
    missing = [measurement for measurement in measurements if measurement not in journal.entries]
    total = sum(len(measurement.asked) for measurement in measurements)
    done = total - sum(len(measurement.asked) for measurement in missing)
    on_progress(doing, done, total)
    calls: list[Call] = [
        (place, one, {name: members[name] for name in dict.fromkeys((*one.members, *one.asked))}) for one in missing
    ]
    for entry in pool.results(measure, calls):
        journal.append(entry)
        done += len(entry.answers)
        on_progress(doing, done, total)


def _label(entry: Entry, name: str, own: OwnAnswers) -> Label:
    asked, answered = entry.measurement, entry.answers[name]
    count = min(len(answered.scores), len(own.base.scores), len(own.single.scores))
    operator = OPERATORS.get(asked.operator)
    return Label(
        members=asked.members,
        adapter=name,
        action=asked.action,
        operator=asked.operator,
        weights=asked.weights,
        pruned=asked.pruned,
        norm=asked.norm or (operator.norm if operator else None),
        hyper_parameters=dict(operator.defaults()) if operator else {},
        seed=asked.seed,
        rank=entry.rank,
        base_scores=own.base.scores[:count],
        single_scores=own.single.scores[:count],
        merged_scores=answered.scores[:count],
        base_log_likelihoods=own.base.log_likelihoods[:count],
        single_log_likelihoods=own.single.log_likelihoods[:count],
        merged_log_likelihoods=answered.log_likelihoods[:count],
        kept_energy=entry.kept_energy,
        norm_ratio=entry.norm_ratio,
        seconds=entry.seconds,
    )


def _order(label: Label) -> tuple[object, ...]:
    """Sort by adapter first: equal lists of scores lie next to each other, and compress to nothing."""
    weights = label.weights or ()
    return (label.adapter, len(label.members), label.members, label.operator, weights, label.pruned or "", label.seed)
