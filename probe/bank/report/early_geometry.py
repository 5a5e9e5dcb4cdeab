"""Section 7: is the geometry of a pair fixed early? Signals at 2, 5 and 10 % of training against the end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from probe.bank.report.charts import Cloud, Curves, Scatter, Series
from probe.bank.report.measurements import Measurements
from probe.bank.report.pair_columns import PairColumn, PairMatrices, fractions, pair_matrices
from probe.bank.report.section import PAPER, Cell, Figure, Section, Table, Verdict, present
from probe.bank.report.statistics import Estimate, Vector, mean_over_pairs, spearman_over_pairs

SOURCE = f"{PAPER}, Section 5.6"
EARLY = 0.10
"""The fraction that the paper observes."""
STABLE = 0.7
"""Spearman's correlation from which we call an order fixed: half of the variance of the ranks."""
SEVERAL_FOLD = 2.0
"""Least growth of the norm after 10 % that "several fold" allows."""
DRAWN = (
    "cosine/all/mean",
    "overlap_in/all/mean",
    "overlap_out/all/mean",
    "gradient_cosine/all/mean",
    "activation_overlap/all/mean",
)
ENERGY = "energy/all/mean"

Pairs = list[tuple[str, str]]


def early_geometry(bank: Measurements) -> Section:
    """Return how well early pair signals order pairs as the final ones do, and what the norm does meanwhile."""
    title = "Early against final geometry"
    rhos = fractions(bank.records)
    early = tuple(rho for rho in rhos if rho < 1)
    if not early or 1.0 not in rhos:
        return Section("early", title, gaps=("Pair features at an early checkpoint and at the end are both needed.",))
    matrices = {rho: pair_matrices(bank.records, rho) for rho in rhos}
    pairs = _ordinary_pairs(bank, matrices)
    columns = tuple(column for column in matrices[1.0].columns if column.role == "pair" and column.is_main)
    tables = (
        _stability_table(matrices, columns, early, pairs),
        _level_table(matrices, rhos, pairs),
        _norm_table(bank, early),
    )
    return Section(
        "early", title, _text(), present(tables), _figures(matrices, rhos, pairs), _verdicts(bank, matrices, pairs)
    )


def _text() -> tuple[str, ...]:
    return (
        "If direction is fixed early, pairs stand in the same order at 10 % of training as at the end. Spearman's "
        f"correlation over unordered pairs of trained adapters; an order counts as fixed from {STABLE:g}.",
        "The records hold no angle between an adapter's own early and final basis, so the paper's claim is tested on "
        "what it is used for: the geometry of pairs, and the growth of the norm (geometric mean over modules).",
    )


def _ordinary_pairs(bank: Measurements, matrices: Mapping[float, PairMatrices]) -> Pairs:
    known = set.intersection(*(set(one.names) for one in matrices.values()))
    names = sorted(name for name in known if name in bank.adapters and bank.adapters[name].method == "sft")
    pairs = [(one, other) for one in names for other in names if one < other]
    return [pair for pair in pairs if not bank.shares_a_seed(pair)]


def _values(matrices: PairMatrices, column: PairColumn, pairs: Pairs) -> Vector:
    """Return a column's values over unordered pairs; NaN where unknown."""
    matrix = matrices.of(column)
    place = {name: index for index, name in enumerate(matrices.names)}
    if matrix is None:
        return np.full(len(pairs), math.nan)
    return np.asarray([matrix[place[first], place[second]] for first, second in pairs], dtype=np.float64)


def _stability(matrices: Mapping[float, PairMatrices], column: PairColumn, rho: float, pairs: Pairs) -> Estimate:
    early, final = (_values(matrices[at], column, pairs) for at in (rho, 1.0))
    known = np.flatnonzero(np.isfinite(early) & np.isfinite(final))
    return spearman_over_pairs(early[known], final[known], [pairs[index] for index in known], "pairs")


def _stability_table(
    matrices: Mapping[float, PairMatrices], columns: Sequence[PairColumn], early: Sequence[float], pairs: Pairs
) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (column.family, column.name, *(_stability(matrices, column, rho, pairs) for rho in early)) for column in columns
    ]
    known = [row for row in rows if any(isinstance(cell, Estimate) and math.isfinite(cell.value) for cell in row)]
    heads = ("family", "signal", *(f"{rho:.0%} against the end" for rho in early))
    return Table("stability", "Order of pairs: Spearman, early against final", heads, tuple(known))


def _level(matrices: PairMatrices, column: PairColumn, pairs: Pairs) -> Estimate | None:
    values = _values(matrices, column, pairs)
    known = np.flatnonzero(np.isfinite(values))
    return mean_over_pairs(values[known], [pairs[index] for index in known], "pairs") if len(known) else None


def _level_table(matrices: Mapping[float, PairMatrices], rhos: Sequence[float], pairs: Pairs) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name in DRAWN:
        levels = [_level(matrices[rho], PairColumn("pair", name), pairs) for rho in rhos]
        if any(levels):
            rows.append((name, *levels))
    return Table(
        "levels", "Mean over pairs as training goes on", ("signal", *(f"{rho:.0%}" for rho in rhos)), tuple(rows)
    )


def _growth(bank: Measurements, rho: float) -> Estimate:
    """Return by which factor the norm still grows after a fraction of training, mean over adapters."""
    energy = {(*row.names, *row.rhos): row.values.get(ENERGY, math.nan) for row in bank.records.adapter_features}
    factors, members = [], []
    for name, adapter in sorted(bank.adapters.items()):
        grown = energy.get((name, 1.0), math.nan) - energy.get((name, rho), math.nan)  # log10 |D|, mean over modules
        if adapter.method == "sft" and math.isfinite(grown):
            factors.append(10**grown)
            members.append((name,))
    return mean_over_pairs(factors, members, "adapters")


def _norm_table(bank: Measurements, early: Sequence[float]) -> Table:
    rows = tuple((f"{rho:.0%}", _growth(bank, rho)) for rho in early)
    return Table("growth", "By which factor the norm still grows", ("after", "final norm / norm then"), rows)


def _figures(matrices: Mapping[float, PairMatrices], rhos: Sequence[float], pairs: Pairs) -> tuple[Figure, ...]:
    lines = []
    for name in DRAWN:
        levels = [(100 * rho, _level(matrices[rho], PairColumn("pair", name), pairs)) for rho in rhos]
        known = [(rho, level) for rho, level in levels if level is not None]
        if known:
            lines.append(Series(name.split("/")[0], tuple(rho for rho, _ in known), tuple(level for _, level in known)))
    caption = "Signals as training goes on, mean over pairs; error bars: 95 % bootstrap over adapters."
    figures = (
        [Figure("levels", caption, Curves(tuple(lines), "% of training", "mean over pairs", is_log=True))]
        if lines
        else []
    )
    rho = EARLY if EARLY in matrices else max(at for at in rhos if at < 1)
    clouds = tuple(cloud for name in DRAWN[:3] if (cloud := _cloud(matrices, name, rho, pairs)).x)
    if clouds:
        chart = Scatter(clouds, f"at {rho:.0%} of training", "at the end", has_diagonal=True)
        figures.append(Figure("scatter", f"One point a pair: a signal at {rho:.0%} of training and at the end.", chart))
    return tuple(figures)


def _cloud(matrices: Mapping[float, PairMatrices], name: str, rho: float, pairs: Pairs) -> Cloud:
    early, final = (_values(matrices[at], PairColumn("pair", name), pairs) for at in (rho, 1.0))
    known = np.isfinite(early) & np.isfinite(final)
    label = f"{name.split('/')[0]} (n = {int(known.sum())})"
    return Cloud(label, tuple(map(float, early[known])), tuple(map(float, final[known])))


def _verdicts(bank: Measurements, matrices: Mapping[float, PairMatrices], pairs: Pairs) -> tuple[Verdict, ...]:
    if EARLY not in matrices:
        return ()
    verdicts = [
        Verdict(
            key=f"5.6, {name.split('/')[0]}",
            claim=f"The order of pairs by {name.split('/')[0]} is fixed at 10 % of training.",
            source=SOURCE,
            measure="Spearman of the 10 % and the final value over pairs",
            estimate=_stability(matrices, PairColumn("pair", name), EARLY, pairs),
            null=STABLE,
        )
        for name in DRAWN
    ]
    growth = Verdict(
        key="5.6, norm",
        claim="The norm grows several fold after 10 % of training.",
        source=SOURCE,
        measure="final norm / norm at 10 %, mean over adapters",
        estimate=_growth(bank, EARLY),
        null=SEVERAL_FOLD,
    )
    return (*verdicts, growth)
