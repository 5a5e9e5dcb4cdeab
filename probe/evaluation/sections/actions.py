"""Section 10: Figure 3, measured: what the policy serves, what that keeps and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from probe.bank.report.charts import Cloud, Forest, Group, Scatter
from probe.bank.report.section import PAPER, Cell, Figure, Section, Table, Verdict, present
from probe.bank.report.statistics import Estimate
from probe.evaluation.evaluation import Evaluation
from probe.evaluation.judged import NOTHING, PLAIN, Judged
from probe.evaluation.metrics import equal_mass_bins, mean, over_adapters
from probe.evaluation.policy import (
    ROUTE,
    Rule,
    Served,
    always,
    bounded,
    clairvoyant,
    forced,
    groups_of,
    hoped,
    serve,
    verified,
)
from probe.evaluation.sections.sensitivity import LAMBDAS
from probe.evaluation.served import GROUPS, Plan, area, worst_lead, worst_lead_at_equal_cost
from probe.evaluation.splits import Regime
from probe.plan_score import TARGET_RETENTION

BY_BOUND, PROPOSED, VERIFIED, ALL, NONE = "the bound", "proposed", "proposed, verified", "merge all", "route all"
CLAIRVOYANT = "knows the labels"
NUM_BINS = 6
"""Of predicted drop."""
ACTIONS = (PLAIN, "reweight", "prune", ROUTE)

Groups = Mapping[tuple[str, ...], Sequence[Judged]]


def actions(of: Evaluation) -> Section:
    """Return what is served of pairs, bank-aware, by the policy and by what it is compared with."""
    title = "Figure 3, measured: the action policy"
    groups = pairs_of(of)
    if not groups:
        return Section("actions", title, verdicts=_verdicts({}), gaps=("No predictor could be fitted.",))
    plans = plans_of(groups)
    text = (
        "Groups of two that were merged; the predictor had not seen the new one. *The bound* is Algorithm 1. "
        "*Proposed* merges what is likely enough to pass to be worth a measurement; *verified* is that after a "
        f"measurement routed whatever missed {TARGET_RETENTION:g}: it costs one verification a merge. *Knows the "
        "labels* picks the best that was measured. What these two keep is told by the rows that chose it, which "
        "flatters them (a bank's controller keeps such rows apart). Fixed operators merge everything.",
        "Protection of safety adapters is off here: the forecast alone is judged.",
    )
    tables = (_table(plans), _mix_table(plans), _reworked_table(groups, plans), _area_table(groups))
    figures = (_frontier(groups), *_mix(of, groups), *_worst_by_domain(of, plans))
    return Section("actions", title, text, present(tables), figures, _verdicts(plans))


def pairs_of(of: Evaluation) -> Groups:
    """Return the groups of two, and their measured recipes with forecasts."""
    judged = of.predictors[Regime.BANK_AWARE].judged.get(of.rho, NOTHING)
    return groups_of(judged.pairs)


def plans_of(groups: Groups) -> dict[str, Plan]:
    """Return what each rule serves of all groups; fixed operators only where they were measured of all."""
    proposed = serve(groups, hoped())
    plans = {BY_BOUND: Plan(serve(groups, bounded())), PROPOSED: Plan(proposed), VERIFIED: Plan(verified(proposed))}
    plans |= {f"always {name}": Plan(serve(groups, always(name))) for name in _everywhere(groups)}
    plans |= {ALL: Plan(serve(groups, forced)), CLAIRVOYANT: Plan(serve(groups, clairvoyant()))}
    return plans | {NONE: Plan(serve(groups, _route))}


def _route(_: Sequence[Judged]) -> None:
    return None


def _everywhere(groups: Groups) -> list[str]:
    plain = [{one.operator for one in some if one.action == PLAIN} for some in groups.values()]
    return sorted(set.intersection(*plain))


def _table(plans: Mapping[str, Plan]) -> Table:
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (name, plan.average, plan.worst, plan.modules, plan.separate, plan.num_merged) for name, plan in plans.items()
    )
    columns = ("served by", "mean Ret", "worst Ret", "modules an adapter", "share kept separate", "groups merged")
    return Table("served", "What is served of pairs", columns, rows)


def _mix_table(plans: Mapping[str, Plan]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name, plan in plans.items():
        found = [one.action for one in plan.served]
        rows.append((name, *(found.count(action) for action in ACTIONS)))
    note = (
        "Reweighted and pruned recipes were measured of a few conflicting pairs only, so they can be chosen there only."
    )
    return Table("mix", "Actions, in groups", ("served by", *ACTIONS), tuple(rows), note)


def _reworked_table(groups: Groups, plans: Mapping[str, Plan]) -> Table:
    """Return why an action that is seldom chosen is not: where it was measured, and what passes there."""
    rows: list[tuple[Cell, ...]] = []
    for action in ("reweight", "prune"):
        measured = {members: rows for members, rows in groups.items() if any(one.action == action for one in rows)}
        passing = [{one.action for one in rows if one.worst >= TARGET_RETENTION} for rows in measured.values()]
        counts = (len(measured), sum(PLAIN in own for own in passing), sum(action in own for own in passing))
        only = sum(action in own and PLAIN not in own for own in passing)
        chosen = (sum(one.action == action for one in plans[name].served) for name in (BY_BOUND, PROPOSED, CLAIRVOYANT))
        rows.append((action, *counts, only, *chosen))
    columns = (
        "action",
        "groups where it was measured",
        "a plain merge passes",
        "it passes",
        "it passes and no plain merge does",
        *(f"chosen by {name}" for name in (BY_BOUND, PROPOSED, "who " + CLAIRVOYANT)),
    )
    return Table("reworked", "What reweighting and pruning are worth, in groups", columns, tuple(rows))


def _frontiers(groups: Groups) -> dict[str, list[Plan]]:
    """Return rule -> plans over lambda, from merging all to routing all."""
    ends = [Plan(serve(groups, forced)), Plan(serve(groups, _route))]
    swept: dict[str, Sequence[Rule]] = {
        BY_BOUND: [bounded(lambda_cost=cost) for cost in LAMBDAS],
        PROPOSED: [hoped(lambda_cost=cost) for cost in LAMBDAS],
        CLAIRVOYANT: [clairvoyant(lambda_cost=cost) for cost in LAMBDAS],
    }
    found = {name: [*ends, *(Plan(serve(groups, rule)) for rule in rules)] for name, rules in swept.items()}
    fixed = {f"always {name}": [Plan(serve(groups, always(name))), ends[1]] for name in _everywhere(groups)}
    return found | fixed


def _area_table(groups: Groups) -> Table:
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (name, area(frontier), len(frontier)) for name, frontier in _frontiers(groups).items()
    )
    note = (
        "Mean Ret over modules an adapter, from merging all to routing all. A rule's plans over lambda are joined by "
        "straight lines (some groups by one plan, some by the next); a fixed operator's line is that of any groups."
    )
    return Table("area", "Area under the retention-cost curve", ("served by", "area", "plans"), rows, note)


def _frontier(groups: Groups) -> Figure:
    clouds = []
    for name, frontier in _frontiers(groups).items():
        points = sorted({(plan.modules.value, plan.average.value) for plan in frontier})
        clouds.append(Cloud(f"{name} (n = {len(groups)})", tuple(x for x, _ in points), tuple(y for _, y in points)))
    caption = f"Figure 3a, measured: mean Ret over cost as lambda runs from {LAMBDAS[0]:g} to {LAMBDAS[-1]:g}."
    chart = Scatter(tuple(clouds), "engine modules an adapter", "mean Ret", is_joined=True)
    return Figure("frontier", caption, chart)


def _mix(of: Evaluation, groups: Groups) -> tuple[Figure, ...]:
    """Draw the share of each action by the drop that the best plain merge is predicted to cost."""
    plain = {members: [one for one in rows if one.action == PLAIN] for members, rows in groups.items()}
    some = {members: rows for members, rows in groups.items() if plain[members]}
    served = serve(some, hoped())
    drops = np.array([1 - max(row.forecast.worst for row in plain[members]) for members in some])
    bins = [rows for rows in equal_mass_bins(drops, NUM_BINS) if len(rows)]
    names = tuple(f"{drops[rows].min():.2f} to {drops[rows].max():.2f} (n = {len(rows)})" for rows in bins)
    shares = tuple(Group(action, tuple(_share(served, rows, action) for rows in bins)) for action in ACTIONS)
    caption = f"Figure 3b, measured: proposed actions by predicted drop of the best merge, at {of.rho:.0%}."
    return (Figure("mix", caption, Forest(names, shares, "share of the groups", 0.0)),) if bins else ()


def _share(served: Sequence[Served], rows: NDArray[np.int64], action: str) -> Estimate:
    found = np.array([served[row].action == action for row in rows])
    return over_adapters(mean(found), [served[row].members for row in rows], GROUPS)


def _worst_by_domain(of: Evaluation, plans: Mapping[str, Plan]) -> tuple[Figure, ...]:
    domains = {adapter.name: adapter.domain for adapter in of.records.adapters}
    names = tuple(sorted({domains[name] for one in plans[ALL].served for name in one.members}))
    shown = [name for name in plans if name not in (NONE, CLAIRVOYANT)]
    groups = tuple(Group(name, tuple(_kept(plans[name], domains, domain) for domain in names)) for name in shown)
    caption = "Figure 3c, measured: Ret of the members of each domain; error bars: 95 % bootstrap over adapters."
    return (Figure("domains", caption, Forest(names, groups, "mean Ret", 1.0)),)


def _kept(plan: Plan, domains: Mapping[str, str], domain: str) -> Estimate:
    kept = [
        (ret, one.members)
        for one in plan.served
        for name, ret in zip(one.members, one.retention, strict=True)
        if domains[name] == domain
    ]
    return over_adapters(mean(np.array([ret for ret, _ in kept])), [members for _, members in kept], "members")


def _verdicts(plans: Mapping[str, Plan]) -> tuple[Verdict, ...]:
    """Judge the plans; without any, every claim is undecided."""
    fixed = [plan for name, plan in plans.items() if name.startswith("always ")]
    is_judged = bool(fixed) and plans[BY_BOUND].num_merged > 0
    policy = Verdict(
        "H5",
        "The four-way policy beats any single fixed operator at matched cost.",
        f"{PAPER}, Appendix C",
        "worst Ret served by the bound less that of the best fixed operator at the same share of groups merged",
        worst_lead_at_equal_cost(plans[BY_BOUND], fixed) if is_judged else None,
    )
    never_worse = Verdict(
        "5.5, never worse",
        "The policy never does worse than the operator under it.",
        f"{PAPER}, Section 5.5",
        "worst Ret served by the bound less that of merging all by the forecast operator",
        worst_lead(plans[BY_BOUND], plans[ALL]) if plans else None,
    )
    return policy, never_worse
