"""Section 4: the learned model against every baseline, on the same merges; min-of-pairs for sets."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from probe.bank.report.charts import Forest, Group
from probe.bank.report.section import OURS, PAPER, Cell, Figure, Section, Table, Verdict, present
from probe.bank.report.statistics import Estimate
from probe.evaluation.evaluation import Evaluation
from probe.evaluation.judged import NOTHING, Judged, Judgements
from probe.evaluation.pair_learners import LEARNED, PAIR_LEARNERS
from probe.evaluation.scores import (
    auroc_lead,
    auroc_of,
    brier_of,
    error_lead,
    error_of,
    spearman_lead,
    spearman_of,
    worst_error_lead,
    worst_error_of,
    worst_spearman_of,
)
from probe.evaluation.sections.rivals import Rival, best_rival, model_of, rivals
from probe.evaluation.settings import PERMUTED
from probe.evaluation.splits import Regime

LEADS = {"AUROC": auroc_lead, "Spearman": spearman_lead, "absolute error": error_lead}
"""What the learned model may lead in; above 0 is better."""


def competition(of: Evaluation) -> Section:
    """Return the table of baselines in every regime, with paired differences, and where the model does not lead."""
    tables = [_table(of, regime) for regime in Regime]
    text = (
        "Every row is fitted to the same labels and asked the same merges. A lead is the learned model's metric less "
        "the baseline's (for errors the other way round), paired over the same merges: above 0 the model is better.",
        "A constant, and a model of shuffled labels, stand below an AUROC of 0.5 where folds differ: they say of each "
        "what the others are.",
        *_plainly(of),
    )
    return Section(
        "baselines",
        "Baselines",
        text,
        present((*tables, _leads(of), _sets(of))),
        _figures(of),
        _verdicts(of),
        _gaps(of),
    )


def _table(of: Evaluation, regime: Regime) -> Table:
    model = model_of(of, regime)
    compared = [Rival(LEARNED, PAIR_LEARNERS[LEARNED].knows, model, model)] if model.rows else []
    rows: list[tuple[Cell, ...]] = []
    for one in (*compared, *rivals(of, regime)):
        found = (auroc_of(one.judged), spearman_of(one.judged), error_of(one.judged), brier_of(one.judged))
        rows.append((one.name, one.knows, len(one.judged.adapters), *found))
    columns = ("learner", "knows", "adapters", "AUROC", "Spearman", "absolute error of Ret", "Brier")
    title = f"Learners over pairs, {regime}, at {of.rho:.0%} of training"
    return Table(f"learners-{regime.name.lower()}", title, columns, tuple(rows))


def _leads(of: Evaluation) -> Table:
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (str(regime), one.name, *(ahead(one.model, one.judged) for ahead in LEADS.values()))
        for regime in Regime
        for one in rivals(of, regime)
    )
    columns = ("regime", "baseline", *(f"lead in {name}" for name in LEADS))
    return Table("leads", f"Lead of the learned model, at {of.rho:.0%} of training", columns, rows)


def _plainly(of: Evaluation) -> tuple[str, ...]:
    """Say, in sentences, which baselines the learned model does not beat by more than the interval."""
    sentences = []
    for regime in Regime:
        for one in rivals(of, regime):
            ahead = auroc_lead(one.model, one.judged)
            if not (ahead.is_bounded and ahead.low > 0):
                sentences.append(f"- {regime}: {one.name}, lead in AUROC {_told(ahead)}.")
    if not sentences:
        return ("The learned model beats every baseline, in every regime, by more than the interval.",)
    return ("**The learned model does not beat, by more than the interval:**", "\n".join(sentences))


def _told(one: Estimate) -> str:
    interval = f"[{one.low:.2f}, {one.high:.2f}]" if one.is_bounded else "(no interval)"
    return f"{one.value:.2f} {interval}, n = {one.n} {one.unit}"


def _sets(of: Evaluation) -> Table:
    tried = of.predictors[Regime.BANK_AWARE]
    rows: list[tuple[Cell, ...]] = []
    judged, by_pairs = (found.get(of.rho, NOTHING) for found in (tried.judged, tried.by_pairs))
    for size in (size for size in judged.sizes if size > 2):
        whole, least = judged.of_size(size), by_pairs.of_size(size)
        for name, one in (("set model", whole), ("min of pairs", least), ("constant", _constant(whole))):
            correlation = None if name == "constant" else worst_spearman_of(one)
            ahead = None if name == "set model" else worst_error_lead(whole, one)
            rows.append((size, name, len(one.adapters), correlation, worst_error_of(one), ahead))
    columns = (
        "members",
        "learner",
        "adapters",
        "Spearman with worst Ret",
        "error of worst Ret",
        "lead of the set model",
    )
    note = "The constant is the median worst Ret of the other sets of that size; the lead is in absolute error."
    return Table("sets", f"Sets, bank-aware at {of.rho:.0%}", columns, tuple(rows), note)


def _constant(judged: Judgements) -> Judgements:
    """Return what the median of the other sets would have forecast."""
    measured = {number: row.worst for number, row in enumerate(judged.rows) if math.isfinite(row.worst)}

    def others(number: int) -> float:
        rest = [worst for other, worst in measured.items() if other != number]
        return float(np.median(rest)) if rest else math.nan

    def of(number: int, row: Judged) -> Judged:
        return replace(row, forecast=replace(row.forecast, worst=others(number)))

    return Judgements(tuple(of(number, row) for number, row in enumerate(judged.rows) if len(measured) > 1))


def _figures(of: Evaluation) -> tuple[Figure, ...]:
    found: dict[Regime, dict[str, Estimate]] = {}
    for regime in Regime:
        model = model_of(of, regime)
        if model.rows:
            found[regime] = {LEARNED: auroc_of(model)} | {one.name: auroc_of(one.judged) for one in rivals(of, regime)}
    names = [name for name in (*PAIR_LEARNERS, PERMUTED) if any(name in own for own in found.values())]
    groups = tuple(Group(str(regime), tuple(map(own.get, names))) for regime, own in found.items())
    if not groups:
        return ()
    caption = f"AUROC of every learner at {of.rho:.0%} of training; error bars: 95 % bootstrap over adapters."
    return (Figure("learners", caption, Forest(tuple(names), groups, "AUROC of the safe label", 0.5)),)


def _verdicts(of: Evaluation) -> tuple[Verdict, ...]:
    metadata = next((one for one in rivals(of, Regime.BANK_AWARE) if one.name == "metadata only"), None)
    asked = (
        ("H1", "Early features predict final mergeability above metadata baselines.", f"{PAPER}, Appendix C", metadata),
        ("Aim, ahead", "The learned model is ahead of the best baseline.", OURS, best_rival(of)),
    )
    return tuple(
        Verdict(
            key,
            claim,
            source,
            f"AUROC less that of {one.name if one else 'a baseline'}, bank-aware, at {of.rho:.0%}, same merges",
            auroc_lead(one.model, one.judged) if one else None,
        )
        for key, claim, source, one in asked
    )


def _gaps(of: Evaluation) -> tuple[str, ...]:
    gaps = [f"{regime}: no merge of two was forecast." for regime in Regime if not model_of(of, regime).rows]
    if not any(size > 2 for size in of.predictors[Regime.BANK_AWARE].judged.get(of.rho, NOTHING).sizes):
        gaps.append(f"No merge of three or more was measured and known at {of.rho:.0%} of training.")
    return tuple(gaps)
