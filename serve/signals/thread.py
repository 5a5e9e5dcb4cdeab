"""Having signals measured beside the serving, in a thread of its own.

A crash loses the piece of work that ran: everything else is on disk, and what is missing is found again.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Set
from typing import Protocol, TypeVar

from probe.records import MergeProbeError
from router.records import Adapter
from router.registry import Registry
from serve.limited.task import NoRoom, TaskCrashed
from serve.signals.measuring import Place
from serve.signals.subjects import Piece, Subjects, Work

log = logging.getLogger("ray.serve")

Result = TypeVar("Result")

MAX_CRASHES = 3
"""A piece that has crashed this often is given up, until the controller starts again."""
RETRY_SECONDS = 30.0
"""Pause where Ray has no room, or the registry cannot be read."""


class Measure(Protocol):
    """Anything that has work done on signals: a bank's, or those of an early forecast."""

    def __call__(self, work: Callable[[Place], Result]) -> Result:
        """Return what the work returns, once its results are on disk.

        Raises
        ------
        NoRoom
            Not now.
        TaskCrashed
            Perhaps another time.
        MergeProbeError
            A piece of it cannot be done.
        """
        ...


class SignalThread:
    """Has missing signals measured, one piece of work after another.

    Parameters
    ----------
    on_news
        Called when everything that can be measured has been, if that took anything.
    """

    def __init__(self, registry: Registry, subjects: Subjects, measure: Measure, on_news: Callable[[], None]) -> None:
        self._registry, self._subjects, self._measure, self._on_news = registry, subjects, measure, on_news
        self._crashes, self._complete = Counter[Piece](), tuple[Adapter, ...]()
        self.given_up: dict[Piece, str] = {}
        self._wanted, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="signals", daemon=True)

    def start(self) -> None:
        """Start measuring what is missing."""
        self._wanted.set()
        self._thread.start()

    def stop(self) -> None:
        """Stop after the piece of work that runs."""
        self._stopping.set()
        self._wanted.set()

    def poke(self) -> None:
        """Something has changed in the bank: look for what is missing."""
        self._wanted.set()

    def round(self) -> None:
        """Measure what is missing until nothing is; where Ray has no room, NoRoom is raised."""
        adapters, done = self._registry.adapters(), set[Piece]()
        if adapters == self._complete:
            return
        while works := self._open_work(done):
            for work in works:
                if self._stopping.is_set():
                    return
                done |= self._do(work)
        self._complete = adapters
        if done:
            self._on_news()

    def _open_work(self, done: Set[Piece]) -> list[Work]:
        """Return what is missing without what was given up, or was done and is missing all the same."""
        missing = self._subjects.missing(self._registry.adapters())
        skipped = done | self.given_up.keys()
        kept = (Work(tuple(piece for piece in work.pieces if piece not in skipped)) for work in missing)
        return [work for work in kept if work.pieces]

    def _do(self, work: Work) -> set[Piece]:
        """Have work done, and return what was done of it."""
        try:
            self._measure(work)
        except NoRoom:
            raise
        except MergeProbeError as error:
            if len(work.pieces) > 1:  # whose fault it was shows when each is done alone
                return set().union(*(self._do(Work((piece,))) for piece in work.pieces))
            self._failed(work.pieces[0], error)
            return set()
        return set(work.pieces)

    def _failed(self, piece: Piece, error: MergeProbeError) -> None:
        self._crashes[piece] += 1
        log.warning("measuring %s failed: %s", piece, error)
        if not isinstance(error, TaskCrashed) or self._crashes[piece] >= MAX_CRASHES:
            self.given_up[piece] = str(error)
            self._registry.record_event("signals", piece.subject.revision, f"Measuring {piece} is given up: {error}")

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wanted.wait()
            self._wanted.clear()
            try:
                self.round()
            except Exception as error:  # of Ray or the registry: this thread must outlive it
                log.warning("signals wait for %.0f s: %s", RETRY_SECONDS, error)
                self._stopping.wait(RETRY_SECONDS)
                self._wanted.set()
