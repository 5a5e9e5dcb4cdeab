"""The proof on a page: a table of methods, the retention-cost curve, and a verdict on every aim."""

from __future__ import annotations

from collections.abc import Sequence

from probe.bank.report.charts import Curves, Series
from probe.bank.report.section import OURS, Cell, Figure, Section, Table, Verdict, escaped
from serve.proof.contest import Outcome, Plan, num_modules
from serve.proof.hindsight import hindsight
from serve.proof.methods import MERGE_ALL, MERGE_FREE, MERGEPROBE
from serve.proof.proof import Proof
from serve.proof.recorded_bank import ServedBank
from serve.proof.worth import Worth

TITLE = "MergeProbe on adapters that it has never seen"
SHOWN_FIXED = ("ta", "ties")
"""Operators whose merge of all has a row whatever it keeps; the best one has a row too."""


def sections_of(proof: Proof, served: ServedBank | None = None) -> tuple[Section, ...]:
    """Return the sections of the report on a proof; `served` holds what the engine answered under `served_plans`."""
    return (
        _overview(proof),
        _compared(proof),
        *_served(proof, served),
        _curve(proof),
        hindsight(proof.contest),
        _aims(proof),
    )


def served_plans(proof: Proof) -> dict[str, Plan]:
    """Return the plans that are worth serving: of equally likely ones the one of median worth."""
    return {name: _median(proof, proof.outcomes[name]) for name in _shown(proof)}


def _median(proof: Proof, outcome: Outcome) -> Plan:
    ordered = sorted(outcome.plans, key=lambda plan: float(proof.worth.worst(Outcome((plan,)))[0]))
    return ordered[len(ordered) // 2]


def _overview(proof: Proof) -> Section:
    bank, facts = proof.contest.bank, proof.contest.bank.records.facts
    target, cost = proof.contest.settings.target_retention, proof.contest.settings.lambda_cost
    rows = tuple(
        (one.name, one.domain or "", one.rank, "protected" if one.protected else "free") for one in bank.adapters
    )
    text = (
        f"Measured, not simulated: {len(bank.adapters)} real adapters on {escaped(facts.base_model)}, labelled "
        f"{facts.first_date} to {facts.last_date} on {escaped(facts.hardware)}. No predictor was fitted on any of "
        f"them. Every group of up to {proof.contest.settings.max_group_size} was merged and asked, "
        f"{len(bank.groups)} modules, so that every method's plan is told by the same measurements.",
        f"A member must keep {target} of its gain (one-sided 90 % lower bound on gate rows), a module costs "
        f"{cost} of one adapter's retention. What a plan is worth is told on report rows, which decided nothing.",
    )
    table = Table("adapters", "The bank", ("adapter", "domain", "rank", "may be merged"), rows)
    return Section("bank", "What was measured", text, (table,))


def _compared(proof: Proof) -> Section:
    columns = ("method", "modules", "merged", "measured", "macro Ret", "worst Ret", "modules that lose safety")
    rows = tuple(_row(proof, name) for name in _shown(proof))
    note = (
        "Modules and merged adapters of all; measured = merges that were measured on the way; a separate adapter keeps "
        "1. Random and cosine groups have MergeProbe's number of modules, random verification has its number of "
        "measurements; both are means over everything that chance may do. A module loses safety where its score on the "
        "protected adapter's rows falls by over 2 standard errors against the base or a member. The oracle has seen "
        "the report rows."
    )
    return Section(
        "methods", "Plans at one cost of a module", tables=(Table("methods", "Methods", columns, rows, note),)
    )


def _shown(proof: Proof) -> list[str]:
    """Return the methods that get a row: of the merges of all, only some."""
    shown = {f"{kind}, {operator}" for kind in (MERGE_ALL, MERGE_FREE) for operator in SHOWN_FIXED}
    shown |= {proof.best_fixed, proof.best_fixed.replace(MERGE_ALL, MERGE_FREE)}
    is_fixed = (f"{MERGE_ALL}, ", f"{MERGE_FREE}, ")
    return [name for name in proof.outcomes if name in shown or not name.startswith(is_fixed)]


def _row(proof: Proof, name: str) -> tuple[Cell, ...]:
    outcome, worth = proof.outcomes[name], proof.worth
    modules = _mean([num_modules(worth.bank, plan) for plan in outcome.plans])
    merged = _mean([sum(len(one.members) for one in plan) for plan in outcome.plans])
    return (_label(proof, name), f"{modules:.3g}", f"{merged:.3g}", outcome.num_verified, *_kept(worth, outcome))


def _label(proof: Proof, name: str) -> str:
    return f"{name} (best of all in hindsight)" if name == proof.best_fixed else name


def _kept(worth: Worth, outcome: Outcome) -> tuple[Cell, ...]:
    losing = _mean([sum(bool(worth.bank.safety_told(one)[1]) for one in plan) for plan in outcome.plans])
    return worth.estimate(worth.macro(outcome)), worth.estimate(worth.worst(outcome)), f"{losing:.2g}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _served(proof: Proof, served: ServedBank | None) -> tuple[Section, ...]:
    """Tell the same plans once more, by other rows and another program: vLLM, with LoRA modules."""
    if served is None:
        return ()
    worth, rows = Worth(served), []
    for name, plan in served_plans(proof).items():
        safety = [served.safety_told(one)[0] for one in plan]
        kept = _kept(worth, Outcome((plan,)))
        rows.append((_label(proof, name), num_modules(served, plan), *kept, min(safety, default=None)))
    columns = ("method", "modules", "macro Ret", "worst Ret", "modules that lose safety", "worst change of safety")
    text = (
        "The plans above on the real engine: vLLM serves every module as a LoRA adapter, and answers the evaluation "
        "rows that no label was measured on.",
    )
    note = "Of equally likely plans the one of median worst Ret. Change of safety: score less that of the base."
    return (Section("served", "Served by the engine", text, (Table("served", "Served", columns, tuple(rows), note),)),)


def _curve(proof: Proof) -> Section:
    """Show every method's points once a cost, with the ends that all share."""
    ends = {"merge all, best": proof.outcomes[proof.best_fixed], "all separate": proof.outcomes["all separate"]}
    series = [_series(proof, name, curve) for name, curve in proof.curves.items()]
    series.append(_series(proof, "merge all / all separate", list(ends.values())))
    figure = Figure(
        "cost",
        "Mean retention over what a plan costs, measured on report rows; 95 % intervals over rows.",
        Curves(tuple(series), "engine modules an adapter", "mean Ret", reference=1.0),
    )
    areas = sorted(proof.areas.items(), key=lambda item: -float(item[1][0]))
    table = Table(
        "areas",
        "Area under the curve",
        ("method", "area"),
        tuple((name, proof.worth.estimate(area)) for name, area in areas),
        "Between merging all by the best operator in hindsight and merging nothing, where every curve begins and ends; "
        "over the curve's width, so 1 would be to lose nothing at any cost.",
    )
    return Section("retention", "Retention and cost", tables=(table,), figures=(figure,))


def _series(proof: Proof, name: str, outcomes: Sequence[Outcome]) -> Series:
    points = {proof.worth.cost(one): proof.worth.estimate(proof.worth.macro(one)) for one in outcomes}
    ordered = sorted(points.items())
    return Series(name, tuple(cost for cost, _ in ordered), tuple(kept for _, kept in ordered))


def _aims(proof: Proof) -> Section:
    plan = proof.outcomes[MERGEPROBE].plans[0]
    lost = [(one, loss) for one in plan if (loss := proof.contest.bank.safety_told(one)[1])]
    told = [f"{' + '.join(escaped(name) for name in one.members)}: {escaped(loss)}." for one, loss in lost]
    safety = "No merged module of MergeProbe's plan loses safety beyond 2 standard errors." if not told else ""
    verdicts = (
        Verdict(
            "worst",
            "MergeProbe beats every fixed operator, its groups left to chance, in worst-task retention at equal cost.",
            OURS,
            "worst Ret less that of random groups of as many modules by the best operator",
            proof.worst_lead,
        ),
        Verdict(
            "area",
            "MergeProbe's area under the retention-cost curve is within 5 % of the oracle's.",
            OURS,
            "area over the oracle's",
            proof.area_share,
            null=0.95,
        ),
        Verdict(
            "verifications",
            "MergeProbe measures a third of what a random order measures for as good a plan.",
            OURS,
            "merges measured, over the mean of random orders (interval: of 95 % of them)",
            proof.verification_share,
            null=1 / 3,
            is_above=False,
        ),
    )
    rows = tuple((one.claim, one.measure, one.estimate, str(one.outcome)) for one in verdicts)
    table = Table(
        "aims", "Aims", ("aim", "measure", "measured", "verdict"), rows, verdicts[0].rule + " (or 0.95, 1/3)."
    )
    return Section("aims", "Aims and verdicts", (safety, *told) if safety else tuple(told), (table,), verdicts=verdicts)
