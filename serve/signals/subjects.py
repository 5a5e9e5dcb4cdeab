"""Whose signals a bank wants, and which are missing: weights first, for all; then what takes a pass of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from router.bank_state import PairAffinity
from router.group_search import MAX_BREADTH, MIN_NEIGHBOURS
from router.partition import EXACT_LIMIT
from router.records import Adapter
from serve.signals.affinities import Affinities
from serve.signals.evidence import Evidence, Subject
from serve.signals.measuring import Place, measure_adapter, measure_pairs

Item = TypeVar("Item")

NUM_NEIGHBOURS = MIN_NEIGHBOURS + MAX_BREADTH
"""Partners that the planner asks about in a bank that is too large to ask about all."""
LIGHT_PIECES = 32
"""Pieces of weights-only work that one worker does: each takes a tenth of a second, and the worker some to start."""
MAX_OTHERS = 2
"""Partners that an adapter is compared with at a time: a merge may have to wait for it."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What is measured at a time: one adapter (no others), or one with some others."""

    subject: Subject
    others: tuple[Subject, ...] = ()

    def __str__(self) -> str:
        beside = f" beside {len(self.others)} others" if self.others else ""
        return f"adapter {self.subject.revision[:12]}{beside}"


@dataclass(frozen=True, slots=True)
class Work:
    """Pieces for one worker, done in their order; what is done stays done if a later one fails."""

    pieces: tuple[Piece, ...]

    def __call__(self, place: Place) -> None:
        """Do it, in this process."""
        for piece in self.pieces:
            if piece.others:
                measure_pairs(place, piece.subject, piece.others)
            else:
                measure_adapter(place, piece.subject)

    def __str__(self) -> str:
        more = f" and {len(self.pieces) - 1} more" if len(self.pieces) > 1 else ""
        return f"the signals of {self.pieces[0]}{more}"


@dataclass(frozen=True, slots=True)
class Subjects:
    """The adapters of a bank that may be merged, as their signals see them.

    Attributes
    ----------
    base
        Names the base model.
    calibrates
        Whether rows are run through it.
    protected_domains
        Adapters of these are never merged, so their signals are not needed.
    """

    evidence: Evidence
    affinities: Affinities
    base: str
    calibrates: bool
    protected_domains: tuple[str, ...]

    def mergeable(self, adapters: Sequence[Adapter]) -> list[Adapter]:
        """Return the adapters whose signals are wanted, each revision once."""
        wanted = {
            adapter.revision: adapter
            for adapter in adapters
            if adapter.evaluation and not (adapter.leaving or self._is_protected(adapter))
        }
        return [wanted[revision] for revision in sorted(wanted)]

    def light(self, adapter: Adapter) -> Subject:
        """Return an adapter of which the weights alone are looked at."""
        return Subject(adapter.revision, None, adapter.domain, self.base)

    def full(self, adapter: Adapter) -> Subject:
        """Return an adapter with all that can be measured of it."""
        return Subject(adapter.revision, adapter.calibration if self.calibrates else None, adapter.domain, self.base)

    def neighbours(self, mergeable: Sequence[Adapter]) -> dict[str, list[str]]:
        """Return revision -> the others, closest first by their weights; of a large bank only the first few."""
        revisions = [adapter.revision for adapter in mergeable]
        affinity = self.affinities.of(revisions)
        limit = len(revisions) if len(revisions) <= EXACT_LIMIT else NUM_NEIGHBOURS
        return {one: sorted(_others(one, revisions), key=_closeness(one, affinity))[:limit] for one in revisions}

    def missing(self, adapters: Sequence[Adapter]) -> list[Work]:
        """Return what was not measured yet, in the order in which to measure it; nothing twice."""
        mergeable = self.mergeable(adapters)
        near = self.neighbours(mergeable)
        light, full = (self._pieces(mergeable, near, view) for view in (self.light, self.full))
        lighter = set(light)
        works = (Work(tuple(pieces)) for pieces in _batched(light, LIGHT_PIECES))
        return [*works, *(Work((piece,)) for piece in full if piece not in lighter)]

    def _is_protected(self, adapter: Adapter) -> bool:
        return adapter.protected or adapter.domain in self.protected_domains

    def _pieces(
        self, mergeable: Sequence[Adapter], near: Mapping[str, Sequence[str]], view: Callable[[Adapter], Subject]
    ) -> list[Piece]:
        subjects = {adapter.revision: view(adapter) for adapter in mergeable}
        alone = (Piece(one) for one in subjects.values() if self.evidence.adapter(one) is None)
        asked: set[frozenset[str]] = set()
        pairs = []
        for revision, own in subjects.items():
            others = [subjects[other] for other in near[revision] if frozenset((revision, other)) not in asked]
            asked |= {frozenset((revision, other)) for other in near[revision]}
            open_ones = [other for other in others if self.evidence.pair(own, other) is None]
            pairs += [Piece(own, tuple(some)) for some in _batched(open_ones, MAX_OTHERS)]
        return [*alone, *pairs]


def _batched(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _others(one: str, revisions: Sequence[str]) -> list[str]:
    return [other for other in revisions if other != one]


def _closeness(one: str, affinity: Mapping[frozenset[str], PairAffinity]) -> Callable[[str], float]:
    return lambda other: -affinity[frozenset((one, other))].score
