"""Drawing: one function a kind of chart, in colours that colour-blind readers tell apart (Okabe and Ito)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from probe.bank.report.charts import Chart, Curves, Forest, HeatMap, Histogram, Scatter
from probe.bank.report.statistics import Estimate

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DPI = 130
_GREY = "#777777"
_DARK_FROM = 0.6
"""Share of the colour scale from which a cell wants white digits."""
_MIN_TICK_GAP = 0.03
"""Share of an axis between two labels."""
_MAX_ANNOTATED = 12
"""Rows of a heat map up to which digits fit its cells."""


def draw(chart: Chart) -> bytes:
    """Draw a chart as PNG."""
    width, height = _size(chart)
    canvas = Canvas(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")
    axes = canvas.add_subplot()
    axes.tick_params(labelsize=9)
    _DRAWERS[type(chart)](axes, chart)
    buffer = BytesIO()
    canvas.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _size(chart: Chart) -> tuple[float, float]:
    """Return width and height in inches, so that labels never overlap."""
    if isinstance(chart, HeatMap):
        cell = 0.8 if len(chart.rows) <= _MAX_ANNOTATED else 0.27
        return 3.4 + cell * len(chart.columns), 2.0 + cell * len(chart.rows)
    if isinstance(chart, Forest):
        return 8.0, 1.6 + 0.14 * len(chart.rows) * (len(chart.groups) + 1.2)
    return 7.2, 4.6


def _heat_map(axes: Axes, chart: HeatMap) -> None:
    values = np.asarray(chart.values, dtype=np.float64)
    low, high = chart.centre - chart.reach, chart.centre + chart.reach
    image = axes.imshow(values, cmap="PuOr", vmin=low, vmax=high, aspect="equal")
    axes.set_facecolor("#E4E4E4")
    size = 9 if len(chart.rows) <= _MAX_ANNOTATED else 6.5
    axes.set_xticks(
        range(len(chart.columns)), chart.columns, rotation=45, ha="right", rotation_mode="anchor", fontsize=size
    )
    axes.set_yticks(range(len(chart.rows)), chart.rows, fontsize=size)
    axes.set_xlabel(chart.column_label)
    axes.set_ylabel(chart.row_label)
    if len(chart.rows) <= _MAX_ANNOTATED:
        _annotate(axes, chart)
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.8, extend="both")
    bar.set_label(chart.label)


def _annotate(axes: Axes, chart: HeatMap) -> None:
    for row, (values, counts) in enumerate(zip(chart.values, chart.counts, strict=True)):
        for column, (value, count) in enumerate(zip(values, counts, strict=True)):
            if math.isfinite(value):
                is_dark = abs(value - chart.centre) > _DARK_FROM * chart.reach
                text, colour = f"{value:z.2f}\nn = {count}", "white" if is_dark else "black"
                axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color=colour)


def _forest(axes: Axes, chart: Forest) -> None:
    step = 0.8 / max(1, len(chart.groups))
    for index, group in enumerate(chart.groups):
        offset = (index - (len(chart.groups) - 1) / 2) * step
        places = [row for row, one in enumerate(group.estimates) if one is not None and math.isfinite(one.value)]
        found: list[Any] = [group.estimates[row] for row in places]
        x, y = [one.value for one in found], [row + offset for row in places]
        axes.errorbar(
            x,
            y,
            xerr=_bars(found),
            linestyle="none",
            markersize=4.5,
            capsize=2,
            elinewidth=1.1,
            label=group.name,
            **_look(index),
        )
    axes.axvline(chart.reference, color=_GREY, linewidth=1, linestyle="--", zorder=0)
    axes.set_yticks(range(len(chart.rows)), chart.rows)
    axes.set_ylim(len(chart.rows) - 0.4, -0.6)
    axes.set_xlabel(chart.label)
    axes.grid(axis="x", alpha=0.25)
    for row in range(1, len(chart.rows), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#F4F4F4", zorder=-1)
    if len(chart.groups) > 1:
        _legend(axes)


def _look(index: int) -> dict[str, Any]:
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}


def _bars(found: list[Estimate]) -> Any:
    """Return lengths of the error bars, (2, n); none where there is no interval."""
    ends = [(one.value - one.low, one.high - one.value) if one.is_bounded else (0.0, 0.0) for one in found]
    # A bias-corrected interval may leave the value itself just outside.
    return np.maximum(np.asarray(ends, dtype=np.float64).reshape(len(found), 2).T, 0.0)


def _curves(axes: Axes, chart: Curves) -> None:
    for index, series in enumerate(chart.series):
        y = [one.value for one in series.y]
        axes.errorbar(
            series.x,
            y,
            yerr=_bars(list(series.y)),
            capsize=3,
            linewidth=1.3,
            markersize=5,
            label=_named(series.name, series.y),
            **_look(index),
        )
    if chart.reference is not None:
        axes.axhline(chart.reference, color=_GREY, linewidth=1, linestyle="--", zorder=0)
    ticks = spaced_ticks({x for series in chart.series for x in series.x}, chart.is_log)
    axes.set_xscale("log" if chart.is_log else "linear")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    _finish(axes, chart)


def spaced_ticks(places: set[float], is_log: bool) -> list[float]:
    """Return places whose labels do not touch, from the largest down."""
    ordered = sorted(places, reverse=True)
    at = np.log(ordered) if is_log else np.array(ordered)
    kept: list[int] = []
    for place in range(len(ordered)):
        if not kept or at[kept[-1]] - at[place] >= _MIN_TICK_GAP * (at[0] - at[-1]):
            kept.append(place)
    return [ordered[place] for place in kept]


def _named(name: str, estimates: tuple[Estimate, ...]) -> str:
    counts = [str(one.n) for one in estimates]
    return f"{name} (n = {counts[0] if len(set(counts)) == 1 else ', '.join(counts)})"


def _scatter(axes: Axes, chart: Scatter) -> None:
    line = "-" if chart.is_joined else "none"
    for index, cloud in enumerate(chart.clouds):
        alpha = 1.0 if chart.is_joined else 0.65
        axes.plot(
            cloud.x, cloud.y, linestyle=line, linewidth=1, markersize=5, alpha=alpha, label=cloud.name, **_look(index)
        )
    if chart.has_diagonal:
        axes.axline((0, 0), slope=1, color=_GREY, linewidth=1, linestyle="--", zorder=0)
    _finish(axes, chart)


def _histogram(axes: Axes, chart: Histogram) -> None:
    everything = np.concatenate([np.asarray(values) for _, values in chart.clouds])
    edges = np.histogram_bin_edges(everything, bins=24)
    for index, (name, values) in enumerate(chart.clouds):
        look: dict[str, Any] = {"color": COLOURS[index], "hatch": ("", "//")[index % 2], "edgecolor": COLOURS[index]}
        axes.hist(values, bins=list(edges), alpha=0.45, label=name, **look)
    axes.axvline(chart.reference, color="black", linewidth=1.2, linestyle="--")
    axes.set_xlabel(chart.label)
    axes.set_ylabel("labels")
    _legend(axes)


def _finish(axes: Axes, chart: Curves | Scatter) -> None:
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    axes.grid(alpha=0.25)
    _legend(axes)


def _legend(axes: Axes) -> None:
    """Put the legend beside the axes, where it covers nothing."""
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0))


_DRAWERS: Mapping[type, Callable[[Axes, Any], None]] = {
    HeatMap: _heat_map,
    Forest: _forest,
    Curves: _curves,
    Scatter: _scatter,
    Histogram: _histogram,
}
