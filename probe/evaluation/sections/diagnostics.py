"""Section 9: Figure 2, measured: predicted and measured drop, where it lies, and which signal shows it first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from probe.bank.report.charts import Cloud, Curves, Scatter, Series
from probe.bank.report.localisation import localisation
from probe.bank.report.measurements import Measurements
from probe.bank.report.section import PAPER, Cell, Figure, Section, Table, Verdict, present
from probe.bank.report.statistics import Estimate, Vector
from probe.evaluation.evaluation import Evaluation
from probe.evaluation.judged import PLAIN
from probe.evaluation.metrics import Flags, auroc, lead, over_adapters
from probe.evaluation.scores import MERGES
from probe.evaluation.sections.rivals import model_of
from probe.predictors.labelled_merges import LabelledMerge, labelled_merges

OPERATOR = "ta"
"""Separation is taken under one operator: pooled, it would be that of the operators."""
GRADIENT, COSINE = "gradient cosine", "parameter cosine"


@dataclass(frozen=True, slots=True)
class Screen:
    """One signal used alone: its column, and +1 where more of it should be safer, else -1."""

    column: str
    sign: float


SCREENS: Mapping[str, Screen] = {
    GRADIENT: Screen("symmetric:gradient_cosine/all/mean", 1.0),
    "activation overlap": Screen("symmetric:activation_overlap/all/mean", -1.0),
    COSINE: Screen("symmetric:absolute_cosine/all/mean", -1.0),
}
"""As the paper has it: aligned gradients are safe; overlap, and updates along one line, are not."""


def diagnostics(of: Evaluation) -> Section:
    """Return Figures 2a to 2c."""
    located = localisation(Measurements(of.records))
    screened = {name: _screened(of, screen) for name, screen in SCREENS.items()}
    text = (
        f"Separation is the AUROC of one signal, read the way the paper says, over plain {OPERATOR} merges of two of "
        "which both were seen at the same share of training: under 0.5 it says the opposite. Nothing is fitted.",
    )
    bands = (replace(one, caption=f"Figure 2b, measured: {one.caption}") for one in located.figures)
    figures = (*_drops(of), *bands, *_separation(screened))
    tables = present((_table(screened), *located.tables))
    return Section("diagnostics", "Figure 2, measured: conflict", text, tables, figures, _verdicts(of), located.gaps)


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs:
    """Pairs whose safety and signals are known at one share of training; (pairs,) each."""

    members: tuple[tuple[str, ...], ...]
    is_safe: Flags
    signals: Mapping[str, Vector]

    def separation(self, name: str) -> Estimate:
        return over_adapters(auroc(self.signals[name], self.is_safe), self.members, MERGES)


def _pairs(of: Evaluation, rho: float, names: tuple[str, ...]) -> _Pairs:
    """Return the pairs of which all these signals are known."""
    rows = {row.names: row.values for row in of.records.pair_features if set(row.rhos) == {rho}}
    known = [(one, rows[one.merge.members]) for one in _plain(of) if one.merge.members in rows]
    columns = {
        name: np.array([SCREENS[name].sign * values.get(SCREENS[name].column, math.nan) for _, values in known])
        for name in names
    }
    keep = np.flatnonzero(np.isfinite(list(columns.values())).all(axis=0)) if known else np.empty(0, dtype=np.int64)
    return _Pairs(
        members=tuple(known[row][0].merge.members for row in keep),
        is_safe=np.array([bool(known[row][0].is_safe) for row in keep], dtype=np.bool_),
        signals={name: column[keep] for name, column in columns.items()},
    )


def _plain(of: Evaluation) -> list[LabelledMerge]:
    return [
        one
        for one in labelled_merges(of.records)[0]
        if len(one.merge.members) == 2
        and one.is_safe is not None
        and (one.merge.recipe.operator, one.merge.recipe.action) == (OPERATOR, PLAIN)
    ]


def _screened(of: Evaluation, screen: Screen) -> dict[float, Estimate]:
    name = next(name for name, one in SCREENS.items() if one is screen)
    found = {rho: _pairs(of, rho, (name,)).separation(name) for rho in of.rhos}
    return {rho: one for rho, one in found.items() if math.isfinite(one.value)}


def _table(screened: Mapping[str, Mapping[float, Estimate]]) -> Table:
    rhos = sorted({rho for found in screened.values() for rho in found})
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (name, SCREENS[name].column, *(found.get(rho) for rho in rhos)) for name, found in screened.items() if found
    )
    columns = ("signal", "column", *(f"at {rho:.0%}" for rho in rhos))
    return Table("separation", "How well one signal separates safe from unsafe pairs: AUROC", columns, rows)


def _drops(of: Evaluation) -> tuple[Figure, ...]:
    domains = {adapter.name: adapter.domain for adapter in of.records.adapters}
    sides = model_of(of).sides
    victims = np.array([domains[members[0]] for members in sides.members])
    clouds = tuple(
        Cloud(
            f"{domain} (n = {int((victims == domain).sum())})",
            tuple((1 - sides.forecast[victims == domain]).tolist()),
            tuple((1 - sides.measured[victims == domain]).tolist()),
        )
        for domain in sorted(set(victims.tolist()))
    )
    if not clouds:
        return ()
    caption = (
        f"Figure 2a, measured: drop of the victim, forecast at {of.rho:.0%} of training and measured; by its domain."
    )
    return (Figure("drop", caption, Scatter(clouds, "predicted drop", "measured drop", has_diagonal=True)),)


def _separation(screened: Mapping[str, Mapping[float, Estimate]]) -> tuple[Figure, ...]:
    lines = tuple(
        Series(name, tuple(100 * rho for rho in found), tuple(found.values()))
        for name, found in screened.items()
        if found
    )
    if not lines:
        return ()
    caption = "Figure 2c, measured: AUROC of one signal alone by share of training; error bars: 95 % bootstrap."
    chart = Curves(lines, "% of training seen by both", "AUROC of the safe label", 0.5, is_log=True)
    return (Figure("separation", caption, chart),)


def _verdicts(of: Evaluation) -> tuple[Verdict, ...]:
    pairs = _pairs(of, of.rho, (GRADIENT, COSINE))
    ahead = lead(*(auroc(pairs.signals[name], pairs.is_safe) for name in (GRADIENT, COSINE)))
    return (
        Verdict(
            "Figure 2c",
            "Gradient cosine separates safe from unsafe pairs earlier than parameter cosine.",
            f"{PAPER}, Figure 2c",
            f"AUROC of the gradient cosine less that of the absolute cosine at {of.rho:.0%}, {OPERATOR}, same pairs",
            over_adapters(ahead, pairs.members, MERGES) if pairs.members else None,
        ),
    )
