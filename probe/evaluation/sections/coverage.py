"""Section 3: whether probabilities and bounds mean what they say; Figure 1c."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from probe.bank.report.charts import Cloud, Scatter
from probe.bank.report.section import OURS, PAPER, Cell, Figure, Section, Table, Verdict, present
from probe.bank.report.statistics import Estimate
from probe.evaluation.evaluation import Evaluation
from probe.evaluation.judged import NOTHING, Judgements
from probe.evaluation.metrics import equal_mass_bins
from probe.evaluation.scores import (
    auroc_of,
    bounded_share_of,
    brier_of,
    calibration_error_by_chance_of,
    calibration_error_of,
    coverage_of,
    error_of,
    radius_of,
    worst_coverage_of,
)
from probe.evaluation.splits import Regime

CALIBRATED = 0.1
"""Calibration error below which we call probabilities well calibrated."""


def coverage(of: Evaluation) -> Section:
    """Return calibration of the safe label's probability, and coverage of the lower bound of Ret."""
    text = (
        "Whole predictors, fitted without groups of adapters, with their temperature and their conformal radii. "
        "Calibration error is over bins of equal mass: look at *by chance*, what perfect probabilities would show on "
        "as many merges, before you believe it.",
        "Coverage is the share of members, of every recipe, whose Ret reaches its lower bound: "
        f"{1 - of.settings.repeated.alpha:.0%} is nominal. A bound that would need more labels is infinite, which "
        "routes; such members are not in the coverage. Pairs and sets stand apart: in a bootstrap over adapters a set "
        "weighs the product over its members, so that few of them would be most of what is drawn.",
    )
    tables = (_calibration(of), _coverage(of), _coverage_by_kind(of))
    gaps = () if any(_tried(of)) else ("Nothing was forecast by a whole predictor.",)
    return Section("coverage", "Calibration and coverage", text, present(tables), _reliability(of), _verdicts(of), gaps)


def _tried(of: Evaluation) -> Iterator[tuple[Regime, float, Judgements]]:
    for regime, tried in of.predictors.items():
        for rho, judged in tried.judged.items():
            if judged.rows:
                yield regime, rho, judged


def _calibration(of: Evaluation) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for regime, rho, judged in _tried(of):
        pairs = judged.plain_pairs
        found = (auroc_of(pairs), calibration_error_of(pairs), calibration_error_by_chance_of(pairs), brier_of(pairs))
        rows.append((str(regime), f"{rho:.0%}", len(pairs.adapters), *found))
    columns = ("regime", "training seen", "adapters", "AUROC", "calibration error", "by chance", "Brier")
    note = "Of whole predictors, whose probabilities are temperature-scaled; fitted without groups of adapters."
    return Table("calibration", "Calibration over pairs", columns, tuple(rows), note)


def _coverage(of: Evaluation) -> Table:
    nominal = 1 - of.settings.repeated.alpha
    rows: list[tuple[Cell, ...]] = []
    for regime, rho, judged in _tried(of):
        for name, some in judged.by_kind.items():
            if some.rows:
                coverages = (coverage_of(some), worst_coverage_of(some))
                told = [cell for one in coverages for cell in (one, in_words(one, nominal))]
                rows.append((str(regime), f"{rho:.0%}", name, *told, bounded_share_of(some), radius_of(some)))
    columns = (
        "regime",
        "training seen",
        "merges",
        "members",
        "nominal is",
        "worst of a merge",
        "nominal is (worst)",
        "bounded",
        "radius",
    )
    note = "*bounded*: share of members with a finite bound; *radius*: median of forecast less bound, in units of Ret."
    return Table("coverage", f"Coverage of the lower bound, nominal {nominal:.0%}", columns, tuple(rows), note)


def in_words(coverage: Estimate, nominal: float) -> str:
    """Say where the nominal coverage lies beside the interval."""
    if not coverage.is_bounded:
        return "no interval"
    if coverage.high < nominal:
        return "above the interval: too little is covered"
    return "inside" if coverage.low <= nominal else "below the interval: more is covered"


def _coverage_by_kind(of: Evaluation) -> Table:
    judged = of.predictors[Regime.BANK_AWARE].judged.get(of.rho, NOTHING)
    domains = {adapter.name: adapter.domain for adapter in of.records.adapters}
    kinds: dict[tuple[str, str], list[int]] = {}
    for number, row in enumerate(judged.rows):
        size = "pairs" if row.size == 2 else "sets"
        kinds.setdefault(("members", str(row.size)), []).append(number)
        kinds.setdefault((f"{size}, action and operator", f"{row.action}/{row.operator}"), []).append(number)
        for domain in {domains[name] for name in row.members}:
            kinds.setdefault((f"{size}, with a member of", domain), []).append(number)
    rows: list[tuple[Cell, ...]] = []
    for (kind, name), numbers in sorted(kinds.items()):
        some = Judgements(tuple(judged.rows[number] for number in numbers))
        rows.append((kind, name, len(some.adapters), coverage_of(some), error_of(some), radius_of(some)))
    columns = ("by", "which", "adapters", "coverage", "absolute error of Ret", "radius")
    return Table("kinds", f"Bank-aware at {of.rho:.0%}, by kind of merge", columns, tuple(rows))


def _reliability(of: Evaluation) -> tuple[Figure, ...]:
    clouds = []
    for regime, tried in of.predictors.items():
        known = tried.judged.get(of.rho, NOTHING).plain_pairs.safety
        if len(known.is_safe):
            bins = equal_mass_bins(known.probability)
            x, y = ([float(np.mean(column[rows])) for rows in bins] for column in (known.probability, known.is_safe))
            clouds.append(Cloud(f"{regime} (n = {len(known.is_safe)})", tuple(x), tuple(y)))
    if not clouds:
        return ()
    caption = f"Figure 1c, measured: reliability at {of.rho:.0%} of training; one point a bin of equal mass."
    chart = Scatter(tuple(clouds), "probability that a merge is safe", "share that is safe", True, is_joined=True)
    return (Figure("reliability", caption, chart),)


def _verdicts(of: Evaluation) -> tuple[Verdict, ...]:
    judged = of.predictors[Regime.BANK_AWARE].judged.get(of.rho, NOTHING).pairs
    pairs, nominal = judged.plain_pairs, 1 - of.settings.repeated.alpha
    return (
        Verdict(
            "Figure 1c, calibrated",
            f"The probability that a merge is safe is well calibrated: off by less than {CALIBRATED:g} on average.",
            f"{PAPER}, Figure 1c",
            f"calibration error, bank-aware, at {of.rho:.0%}",
            calibration_error_of(pairs) if pairs.rows else None,
            null=CALIBRATED,
            is_above=False,
        ),
        Verdict(
            "Coverage",
            f"The lower bound covers less than the nominal {nominal:.0%}.",
            OURS,
            f"coverage of members of pairs, bank-aware, at {of.rho:.0%}",
            coverage_of(judged) if judged.rows else None,
            null=nominal,
            is_above=False,
        ),
    )
