"""Section 6: Table 4, measured: how AUROC and what is served change with rho, the thresholds and lambda."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from probe.bank.ceilings import SAFE_COMPATIBILITY, Ceilings
from probe.bank.mergeability import safe_sides
from probe.bank.report.section import Cell, Section, Table, present
from probe.bank.report.statistics import Estimate
from probe.evaluation.evaluation import Evaluation
from probe.evaluation.judged import NOTHING, Judged, Judgements
from probe.evaluation.policy import Rule, bounded, groups_of, hoped, serve
from probe.evaluation.scores import auroc_of
from probe.evaluation.served import Plan
from probe.evaluation.splits import Regime
from probe.plan_score import LAMBDA_COST, MAX_DROP

THRESHOLDS = (
    (SAFE_COMPATIBILITY, 0.05),
    (SAFE_COMPATIBILITY, 0.10),
    (SAFE_COMPATIBILITY, MAX_DROP),
    (SAFE_COMPATIBILITY, 0.25),
    (0.4, MAX_DROP),
    (0.8, MAX_DROP),
)
"""(gamma, delta)."""
LAMBDAS = (0.02, 0.05, 0.1, 0.2, LAMBDA_COST, 1.0)


def sensitivity(of: Evaluation) -> Section:
    """Return Table 4 over pairs, for what the bound serves and for what would be verified."""
    title = "Table 4, measured: sensitivity"
    judged = of.predictors[Regime.BANK_AWARE].judged
    if not judged.get(of.rho, NOTHING).rows:
        return Section("sensitivity", title, gaps=("No predictor could be fitted.",))
    text = (
        "Groups of two, bank-aware, whole predictors. Both counts of active modules are shown: engine modules an "
        "adapter (a merged pair needs half of one each), and the share of pairs kept separate, which the paper counts.",
        "Another (gamma, delta) is another safe label for the same probabilities, which were fitted to gamma "
        f"{SAFE_COMPATIBILITY:g}, delta {MAX_DROP:g}; delta is the policy's target as well, 1 - delta. lambda is what "
        "a module costs, in units of Ret: below the cost of a loss nothing is merged that loses anything.",
    )
    tables = (_table(of, "rho", _by_rho(of)), _table(of, "gamma, delta", _by_threshold(of)))
    return Section("sensitivity", title, text, present((*tables, _table(of, "lambda", _by_lambda(of)))))


Row = tuple[str, Estimate | None, Judgements, tuple[Rule, Rule]]
"""Value, AUROC, what is served from, and by which rules."""


def _table(of: Evaluation, parameter: str, found: Iterator[Row]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for value, auroc, judged, rules in found:
        groups = groups_of(judged)
        for name, rule in zip(("by the bound", "proposed"), rules, strict=True):
            plan = Plan(serve(groups, rule))
            if plan.served:
                rows.append((value, auroc, name, plan.average, plan.worst, plan.modules, plan.separate))
    columns = (parameter, "AUROC", "served", "mean Ret", "worst Ret", "modules an adapter", "share kept separate")
    at = "" if parameter == "rho" else f" at {of.rho:.0%} of training"
    return Table(parameter.replace(", ", "-"), f"{parameter}{at}", columns, tuple(rows))


def _pairs(of: Evaluation, rho: float) -> Judgements:
    return of.predictors[Regime.BANK_AWARE].judged.get(rho, NOTHING).pairs


def _by_rho(of: Evaluation) -> Iterator[Row]:
    for rho in of.rhos:
        pairs = _pairs(of, rho)
        if pairs.rows:
            yield f"{rho:.0%}", auroc_of(pairs.plain_pairs), pairs, (bounded(), hoped())


def _by_threshold(of: Evaluation) -> Iterator[Row]:
    ceilings = Ceilings(of.records)
    pairs = _pairs(of, of.rho)
    for gamma, delta in THRESHOLDS:
        relabelled = Judgements(tuple(_relabelled(row, ceilings, gamma, delta) for row in pairs.rows))
        rules = bounded(1 - delta), hoped(1 - delta)
        yield f"{gamma:g}, {delta:g}", auroc_of(relabelled.plain_pairs), pairs, rules


def _relabelled(row: Judged, ceilings: Ceilings, gamma: float, delta: float) -> Judged:
    """Return a merge with the safe label of other thresholds; unknown stays unknown."""
    if row.labelled.is_safe is None:
        return row
    gains = [ceilings.normalised_gain(name) for name in row.members]
    return replace(row, labelled=replace(row.labelled, safe_sides=safe_sides(row.retention, gains, gamma, delta)))


def _by_lambda(of: Evaluation) -> Iterator[Row]:
    pairs = _pairs(of, of.rho)
    for cost in LAMBDAS:
        yield f"{cost:g}", None, pairs, (bounded(lambda_cost=cost), hoped(lambda_cost=cost))
