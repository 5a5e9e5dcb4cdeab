"""Section 11: over-routing (Appendix G): safe merges that are routed because the bound fails, by their distance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from probe.bank.report.charts import Curves, Series
from probe.bank.report.section import PAPER, Cell, Figure, Section, Table, Verdict, present
from probe.bank.report.statistics import Estimate
from probe.evaluation.evaluation import Evaluation
from probe.evaluation.judged import NOTHING, Worst
from probe.evaluation.metrics import Flags, mean, over_adapters
from probe.evaluation.scores import MERGES
from probe.evaluation.splits import Regime
from probe.plan_score import TARGET_RETENTION

DISTANCES = (-math.inf, -0.10, -0.05, 0.0, 0.05, 0.10, math.inf)
"""Edges of measured worst Ret less the target."""


def over_routing(of: Evaluation) -> Section:
    """Return which merges the bound routes though they were measured to pass, and which it lets through that fail."""
    title = "Over-routing"
    judged = of.predictors[Regime.BANK_AWARE].judged.get(of.rho, NOTHING)
    worst = judged.pairs.worst
    if not worst.members:
        return Section("over-routing", title, gaps=("No pair of which both sides were measured was forecast.",))
    text = (
        f"Merges of two by every recipe, bank-aware at {of.rho:.0%}. A merge passes where its worst measured Ret is "
        f"{TARGET_RETENTION:g} or more. Routing one that passes costs a module, not retention; serving one that fails "
        "costs retention, which the verification before a swap would find.",
    )
    tables = present((_table(worst), _errors({kind: some.worst for kind, some in judged.by_kind.items()})))
    return Section("over-routing", title, text, tables, _figure(of, worst), _verdicts(worst))


def _within(worst: Worst, low: float, high: float) -> Flags:
    distance = worst.measured - TARGET_RETENTION
    return np.asarray((distance >= low) & (distance < high))


def _share(worst: Worst, chosen: Flags, counted: Flags) -> Estimate:
    """Return the share of the chosen merges that are counted."""
    rows = np.flatnonzero(chosen)
    return over_adapters(mean(counted[rows]), [worst.members[row] for row in rows], MERGES)


def _table(worst: Worst) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for low, high in pairwise(DISTANCES):
        chosen = _within(worst, low, high)
        if chosen.any():
            shares = (_share(worst, chosen, column < TARGET_RETENTION) for column in (worst.bound, worst.forecast))
            rows.append((_named(low, high), "passes" if low >= 0 else "fails", *shares))
    columns = (
        f"worst Ret less {TARGET_RETENTION:g}",
        "measured",
        "routed by the bound",
        "routed by the point forecast",
    )
    return Table("distance", "Share routed, by distance from the target", columns, tuple(rows))


def _named(low: float, high: float) -> str:
    if math.isinf(low):
        return f"under {high:g}"
    return f"{low:g} or more" if math.isinf(high) else f"{low:g} to {high:g}"


def _errors(merges: Mapping[str, Worst]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for size, worst in merges.items():
        passes = worst.measured >= TARGET_RETENTION
        for name, column in (("bound", worst.bound), ("point forecast", worst.forecast)) if worst.members else ():
            served = column >= TARGET_RETENTION
            kept = worst.measured[served]
            found = (passes & ~served, ~passes & served, passes & served, ~passes & ~served)
            rows.append((size, name, *(int(one.sum()) for one in found), float(kept.mean()) if len(kept) else None))
    columns = (
        "merges",
        "by the",
        "passes but routed",
        "fails but served",
        "passes and served",
        "fails and routed",
        "worst Ret of what is served",
    )
    return Table("errors", "Errors of either kind, in merges", columns, tuple(rows))


def _figure(of: Evaluation, worst: Worst) -> tuple[Figure, ...]:
    edges = [edge for edge in DISTANCES if math.isfinite(edge)]
    centres = [edges[0] - 0.05, *((a + b) / 2 for a, b in pairwise(edges)), edges[-1] + 0.05]
    chosen = [_within(worst, low, high) for low, high in pairwise(DISTANCES)]
    known = [(centre, one) for centre, one in zip(centres, chosen, strict=True) if one.any()]
    lines = tuple(
        Series(
            name,
            tuple(centre for centre, _ in known),
            tuple(_share(worst, one, column < TARGET_RETENTION) for _, one in known),
        )
        for name, column in (("by the bound", worst.bound), ("by the point forecast", worst.forecast))
    )
    caption = (
        f"Share of merges that are routed by their measured distance from the target, at {of.rho:.0%} of training."
    )
    return (
        Figure("distance", caption, Curves(lines, f"measured worst Ret less {TARGET_RETENTION:g}", "share routed")),
    )


def _verdicts(worst: Worst) -> tuple[Verdict, ...]:
    passes, served = worst.measured >= TARGET_RETENTION, worst.bound >= TARGET_RETENTION
    return (
        Verdict(
            "Appendix G, over-routing",
            "The dominant failure is over-conservative routing, not merging what fails.",
            f"{PAPER}, Appendix G",
            "share of the bound's errors that route a merge which passes",
            _share(worst, passes != served, passes) if (passes != served).any() else None,
            null=0.5,
        ),
    )
