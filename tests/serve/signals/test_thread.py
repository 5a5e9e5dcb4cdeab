"""Which signals are missing, in which order they are measured, and what becomes of work that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from probe.records import MergeProbeError
from router.partition import EXACT_LIMIT
from serve.limited.task import NoRoom, TaskCrashed
from serve.signals import thread as module
from serve.signals.subjects import LIGHT_PIECES, MAX_OTHERS, NUM_NEIGHBOURS, Piece, Subjects, Work
from serve.signals.thread import SignalThread
from tests.serve.bank import TinyBank, eventually


@dataclass
class PlantedWork:
    """Measures in this process, and notes what was done; fails as planted."""

    bank: TinyBank
    fail: Callable[[Work], None] = lambda work: None
    done: list[Piece] = field(default_factory=list)

    def __call__(self, work: Work) -> None:
        self.fail(work)
        self.bank.measure(work)
        self.done += work.pieces


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[TinyBank]:
    bank = TinyBank(tmp_path)
    yield bank
    bank.registry.close()


@dataclass
class Thread:
    """A signal thread that is driven by hand, over a bank's registry."""

    bank: TinyBank
    work: PlantedWork = field(init=False)
    news: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.work = PlantedWork(self.bank)
        self.thread = SignalThread(self.bank.registry, self.subjects, self.work, lambda: self.news.append(True))

    @property
    def subjects(self) -> Subjects:
        return self.bank.bank.signals._subjects


@pytest.fixture
def thread(bank: TinyBank) -> Thread:
    return Thread(bank)


def names(bank: TinyBank, pieces: list[Piece]) -> list[str]:
    known = {adapter.revision: adapter.name for adapter in bank.registry.adapters()}
    return [
        "+".join([known[piece.subject.revision], *sorted(known[other.revision] for other in piece.others)])
        for piece in pieces
    ]


def test_adapters_first_then_every_pair_once_and_then_nothing(bank: TinyBank, thread: Thread) -> None:
    for name in "abc":
        bank.register(name)
    thread.thread.round()
    told = names(bank, thread.work.done)
    assert sorted(told[:3]) == ["a", "b", "c"]
    pairs = [frozenset((first, other)) for first, *others in (one.split("+") for one in told[3:]) for other in others]
    assert sorted(map(sorted, pairs)) == [["a", "b"], ["a", "c"], ["b", "c"]]
    assert thread.news == [True]
    thread.work.done.clear()
    thread.thread.round()
    assert thread.work.done == []
    assert thread.news == [True]


def test_a_newcomer_costs_its_own_pieces_only_also_after_a_restart(bank: TinyBank, thread: Thread) -> None:
    for name in "ab":
        bank.register(name)
    thread.thread.round()
    bank.register("c")
    after = Thread(bank)
    after.thread.round()
    assert all("c" in told for told in names(bank, after.work.done))
    assert len(after.work.done) >= 2


def test_protected_leaving_and_unmeasurable_adapters_are_left_alone(bank: TinyBank, thread: Thread) -> None:
    bank.register("a")
    bank.register("p", protected=True)
    bank.register("s", domain="safety")
    bank.register("e", evaluation=None)
    bank.register("l")
    bank.bank.registrar.remove("l", force=False)
    thread.thread.round()
    assert names(bank, thread.work.done) == ["a"]


def test_all_pairs_of_a_small_bank_and_only_neighbours_of_a_large_one(bank: TinyBank) -> None:
    subjects = bank.bank.signals._subjects
    for number in range(max(EXACT_LIMIT, NUM_NEIGHBOURS) + 3):
        bank.register(f"a{number}")
    adapters = bank.registry.adapters()
    few, many = subjects.neighbours(adapters[:EXACT_LIMIT]), subjects.neighbours(adapters)
    assert {len(near) for near in few.values()} == {EXACT_LIMIT - 1}
    assert {len(near) for near in many.values()} == {NUM_NEIGHBOURS}
    affinity = subjects.affinities.of([adapter.revision for adapter in adapters])
    for revision, near in many.items():
        scores = [affinity[frozenset((revision, other))].score for other in near]
        assert scores == sorted(scores, reverse=True)


def test_weights_go_in_batches_and_rows_with_few_partners_at_a_time(bank: TinyBank) -> None:
    for number in range(MAX_OTHERS + 3):
        bank.register(f"a{number}")
    adapters = [replace(adapter, calibration="c" * 64) for adapter in bank.registry.adapters()]
    works = bank.bank.signals._subjects.missing(adapters)
    light = [work for work in works if work.pieces[0].subject.rows is None]
    full = [work for work in works if work.pieces[0].subject.rows is not None]
    assert works == [*light, *full]
    assert max(len(work.pieces) for work in light) <= LIGHT_PIECES
    assert {len(work.pieces) for work in full} == {1}
    assert max(len(work.pieces[0].others) for work in full) == MAX_OTHERS


def test_without_calibration_rows_there_is_nothing_to_measure_twice(bank: TinyBank) -> None:
    bank.register("a")
    bank.register("b")
    works = bank.bank.signals._subjects.missing(bank.registry.adapters())
    assert sum(len(work.pieces) for work in works) == 3


def test_a_crash_is_tried_again_and_given_up_the_third_time(bank: TinyBank, thread: Thread) -> None:
    bank.register("a")
    tries: list[Work] = []

    def fail(work: Work) -> None:
        tries.append(work)
        raise TaskCrashed("planted")

    thread.work.fail = fail
    thread.thread.round()
    assert len(tries) == module.MAX_CRASHES
    assert list(thread.thread.given_up.values()) == ["planted"]
    (event,) = [event for event in bank.registry.events() if event.kind == "signals"]
    assert "given up: planted" in event.message
    thread.thread.round()
    assert len(tries) == module.MAX_CRASHES
    assert thread.news == []


def test_one_bad_adapter_does_not_keep_the_others_from_being_measured(bank: TinyBank, thread: Thread) -> None:
    for name in "abc":
        bank.register(name)
    bad = bank.registry.adapter("b").revision

    def fail(work: Work) -> None:
        if any(bad in (piece.subject.revision, *(one.revision for one in piece.others)) for piece in work.pieces):
            raise MergeProbeError("planted: its tensors are odd")

    thread.work.fail = fail
    thread.thread.round()
    told = names(bank, thread.work.done)
    assert {"a", "c"} <= set(told)
    assert not any("b" in one for one in told)
    evidence, subjects = thread.subjects.evidence, thread.subjects
    a, b, c = (subjects.light(bank.registry.adapter(name)) for name in "abc")
    assert evidence.adapter(b) is None
    assert evidence.adapter(a) is not None
    assert evidence.adapter(c) is not None


def test_without_room_the_work_waits_and_is_not_given_up(bank: TinyBank, thread: Thread) -> None:
    bank.register("a")

    def fail(work: Work) -> None:
        raise NoRoom("planted")

    thread.work.fail = fail
    with pytest.raises(NoRoom):
        thread.thread.round()
    assert thread.thread.given_up == {}
    thread.work.fail = lambda work: None
    thread.thread.round()
    assert len(thread.work.done) == 1


def test_work_that_says_done_and_leaves_nothing_does_not_go_on_for_ever(bank: TinyBank) -> None:
    bank.register("a")
    asked: list[Work] = []
    thread = SignalThread(bank.registry, bank.bank.signals._subjects, asked.append, lambda: None)
    thread.round()
    assert len(asked) == 1


def test_the_thread_measures_when_it_is_poked_and_survives_trouble(
    bank: TinyBank, thread: Thread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.02)
    troubles = iter([True])

    def fail(work: Work) -> None:
        if next(troubles, False):
            raise NoRoom("planted")

    thread.work.fail = fail
    bank.register("a")
    thread.thread.start()
    eventually(lambda: len(thread.work.done) == 1)
    bank.register("b")
    thread.thread.poke()
    eventually(lambda: len(thread.news) == 2)
    thread.thread.stop()
    thread.thread._thread.join(10)
    assert not thread.thread._thread.is_alive()
