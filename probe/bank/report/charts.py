"""What a figure shows, as data: `plots` draws it, the report's JSON holds it."""

from __future__ import annotations

from dataclasses import dataclass

from probe.bank.report.statistics import Estimate


@dataclass(frozen=True, slots=True)
class HeatMap:
    """A matrix with its counts.

    Attributes
    ----------
    values, counts
        Rows of cells; NaN is a cell that nobody measured.
    label, row_label, column_label
        What the colour, the rows and the columns are.
    centre
        The value of the neutral colour: 1 for a retention, 0 for a difference.
    reach
        How far from the centre the colours go.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    counts: tuple[tuple[int, ...], ...]
    label: str
    row_label: str
    column_label: str
    centre: float
    reach: float


@dataclass(frozen=True, slots=True)
class Group:
    """Estimates that share a colour; one for each row of the chart, None where there is none."""

    name: str
    estimates: tuple[Estimate | None, ...]


@dataclass(frozen=True, slots=True)
class Forest:
    """Estimates with their intervals, one row each.

    Attributes
    ----------
    reference
        Where the line stands that means no effect, or all kept.
    """

    rows: tuple[str, ...]
    groups: tuple[Group, ...]
    label: str
    reference: float


@dataclass(frozen=True, slots=True)
class Series:
    """One line: x (n,), y (n,) as estimates."""

    name: str
    x: tuple[float, ...]
    y: tuple[Estimate, ...]


@dataclass(frozen=True, slots=True)
class Curves:
    """Lines over a shared x axis, logarithmic if `is_log`; `reference` is a level to mark."""

    series: tuple[Series, ...]
    x_label: str
    y_label: str
    reference: float | None = None
    is_log: bool = False


@dataclass(frozen=True, slots=True)
class Cloud:
    """Points of one colour."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Scatter:
    """Clouds of points; joined where each is a path, with the diagonal where both axes are one quantity."""

    clouds: tuple[Cloud, ...]
    x_label: str
    y_label: str
    has_diagonal: bool = False
    is_joined: bool = False


@dataclass(frozen=True, slots=True)
class Histogram:
    """Distributions over shared bins; `reference` is a threshold to mark."""

    clouds: tuple[tuple[str, tuple[float, ...]], ...]
    label: str
    reference: float


Chart = HeatMap | Forest | Curves | Scatter | Histogram
