"""What a section of the report is made of: words, tables, figures and verdicts, without a layout."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from probe.bank.report.charts import Chart
from probe.bank.report.statistics import Estimate

PAPER = "arXiv 2606.19549"
"""The paper whose claims are judged: MergeProbe."""
OURS = "question of ours"
"""Source of a claim that no paper makes."""

Cell = str | int | float | Estimate | None
_MARKUP = re.compile(r"([\\`*_{}\[\]<>|#~])")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under column names; `note` says how to read it."""

    key: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart; it becomes `<section>-<key>.png`."""

    key: str
    caption: str
    chart: Chart


class Outcome(StrEnum):
    """What the measurement says of a claim."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A claim, the rule by which it is judged, and what was measured.

    Attributes
    ----------
    key, claim, source
        Short name; the claim in a sentence; who makes it.
    measure
        What was estimated, in words.
    null, is_above
        The claim says that the measure lies above `null` (below, where `is_above` is false).
    estimate
        None where nothing of the kind was measured.
    """

    key: str
    claim: str
    source: str
    measure: str
    estimate: Estimate | None
    null: float = 0.0
    is_above: bool = True

    @property
    def outcome(self) -> Outcome:
        """Confirmed (refuted) where the whole 95 % interval lies on the claimed (the other) side of the null."""
        if self.estimate is None or not self.estimate.is_bounded:
            return Outcome.UNDECIDED
        is_over, is_under = self.estimate.low > self.null, self.estimate.high < self.null
        if not (is_over or is_under):
            return Outcome.UNDECIDED
        return Outcome.CONFIRMED if is_over == self.is_above else Outcome.REFUTED

    @property
    def contradicts(self) -> bool:
        """Whether the measurement refutes a claim that a paper makes."""
        return self.outcome == Outcome.REFUTED and self.source != OURS

    @property
    def rule(self) -> str:
        """The rule in words, stated before any measurement."""
        side, other = ("above", "below") if self.is_above else ("below", "above")
        return f"confirmed if the 95 % interval lies {side} {self.null:g}, refuted if {other}, else undecided"


@dataclass(frozen=True, slots=True)
class Section:
    """One section.

    Attributes
    ----------
    text
        Paragraphs before the tables, in Markdown.
    gaps
        What the records are too few for, a sentence each.
    """

    key: str
    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    gaps: tuple[str, ...] = field(default=())


def escaped(text: str) -> str:
    """Escape what Markdown would read as markup: names of adapters are anybody's."""
    return _MARKUP.sub(r"\\\1", text.replace("\n", " "))


def present(tables: Sequence[Table]) -> tuple[Table, ...]:
    """Return the tables that have rows."""
    return tuple(table for table in tables if table.rows)
