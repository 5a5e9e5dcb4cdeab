"""Section 5: which signals matter: Table 3 and Figure 1b, measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from probe.bank.report.charts import Forest, Group
from probe.bank.report.section import PAPER, Cell, Figure, Section, Table, Verdict, present
from probe.bank.report.statistics import Estimate
from probe.evaluation.evaluation import Evaluation
from probe.evaluation.judged import NOTHING, Judgements
from probe.evaluation.policy import Rule, bounded, forced, groups_of, hoped, serve
from probe.evaluation.scores import auroc_lead, auroc_of
from probe.evaluation.sections.rivals import lesson
from probe.evaluation.served import Plan
from probe.evaluation.settings import ALL_FAMILIES, MERGES
from probe.signals import Family

RULES: Mapping[str, Rule] = {"by the bound": bounded(), "proposed": hoped()}
FORCED, PAIRWISE = "forced merge (no policy)", "pairwise only (no set model)"


def families(of: Evaluation) -> Section:
    """Return what is lost without each family, without the policy and without the set model."""
    title = "Table 3, measured: signals and policy"
    if not _judged(of, ALL_FAMILIES).rows:
        return Section("families", title, gaps=("No predictor could be fitted.",))
    text = (
        "The predictor is fitted again without each family of signals; everything else is the same. *By the bound* "
        "serves what Algorithm 1 serves: the best measured recipe of a group whose bound passes 0.85, or routing. "
        "*Proposed* serves what is likely enough to pass to be verified, whatever that would show. Ret is measured; a "
        "routed adapter has 1, so a rule that routes all keeps all: read Ret beside the share that is kept separate.",
        "Protection of safety adapters is off here: the forecast alone is judged.",
    )
    tables = (_auroc_table(of), *(_policy_table(of, kind) for kind in NOTHING.by_kind), _alone_table(of))
    return Section("families", title, text, present(tables), _figures(of), _verdicts(of))


def _auroc_table(of: Evaluation) -> Table:
    full = _judged(of, ALL_FAMILIES).plain_pairs
    rows: list[tuple[Cell, ...]] = []
    for name in of.ablations:
        pairs = _judged(of, name).plain_pairs
        lost = None if name == ALL_FAMILIES else auroc_lead(full, pairs)
        rows.append((name, len(pairs.adapters), auroc_of(pairs), lost))
    columns = ("signals", "adapters", "AUROC", "lost by leaving it out")
    note = "Above 0: the family is missed. Families overlap, so none missed does not mean that none matters."
    return Table("auroc", "Without each family: AUROC over pairs", columns, tuple(rows), note)


def _policy_table(of: Evaluation, kind: str) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name, judged in _configurations(of):
        groups = groups_of(judged.by_kind[kind])
        for rule_name, rule in _rules(name).items():
            plan = Plan(serve(groups, rule))
            if plan.served:
                rows.append((name, rule_name, plan.average, plan.worst, plan.modules, plan.separate))
    columns = ("configuration", "served", "mean Ret", "worst Ret", "modules an adapter", "share kept separate")
    return Table(f"policy-{kind}", f"Measured Ret of what would be served: {kind}", columns, tuple(rows))


def _configurations(of: Evaluation) -> Iterator[tuple[str, Judgements]]:
    for name in of.ablations:
        yield name, _judged(of, name)
    yield FORCED, _judged(of, ALL_FAMILIES)
    yield PAIRWISE, of.ablations[ALL_FAMILIES].by_pairs.get(of.rho, NOTHING)


def _judged(of: Evaluation, name: str) -> Judgements:
    return of.ablations[name].judged.get(of.rho, NOTHING)


def _rules(configuration: str) -> Mapping[str, Rule]:
    return {"always": forced} if configuration == FORCED else RULES


def _alone_table(of: Evaluation) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (name, len(judged.plain_pairs.adapters), auroc_of(judged.plain_pairs)) for name, judged in _alone(of)
    ]
    return Table("alone", "Each family alone: AUROC over pairs", ("signals", "adapters", "AUROC"), tuple(rows))


def _alone(of: Evaluation) -> Iterator[tuple[str, Judgements]]:
    """Yield the forecasts of each family alone, and of all."""
    known = [(name, judged) for name, judged in of.alone.items() if judged.rows]
    yield from known
    if known:
        yield ALL_FAMILIES, lesson(of, MERGES)


def _figures(of: Evaluation) -> tuple[Figure, ...]:
    found: list[tuple[str, Estimate]] = [(name, auroc_of(judged.plain_pairs)) for name, judged in _alone(of)]
    if not found:
        return ()
    caption = f"Figure 1b, measured: AUROC of each family alone, bank-aware at {of.rho:.0%}; bars: 95 % bootstrap."
    names, estimates = zip(*found, strict=True)
    chart = Forest(tuple(names), (Group("AUROC", tuple(estimates)),), "AUROC of the safe label", 0.5)
    return (Figure("alone", caption, chart),)


def _verdicts(of: Evaluation) -> tuple[Verdict, ...]:
    full = _judged(of, ALL_FAMILIES).plain_pairs
    verdicts = [
        Verdict(
            f"Table 3, {name}",
            f"Leaving out {name.removeprefix('minus ')} lowers the AUROC.",
            f"{PAPER}, Section 3 and Table 3",
            f"AUROC of all families less that {name}, bank-aware at {of.rho:.0%}, same merges",
            auroc_lead(full, _judged(of, name).plain_pairs),
        )
        for name in of.ablations
        if name not in (ALL_FAMILIES, f"minus {Family.BASE}")
    ]
    return tuple(verdicts)
