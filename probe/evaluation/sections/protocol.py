"""Section 1: what was left out, what was asked, and what it took."""

from __future__ import annotations

from collections.abc import Mapping

from probe.bank.report.section import Cell, Section, Table, present
from probe.evaluation.evaluation import Evaluation
from probe.evaluation.splits import Regime
from probe.predictors.options import FitOptions

LEFT_OUT: Mapping[Regime, str] = {
    Regime.BANK_AWARE: "a new adapter, seen early, against adapters that are known to their end",
    Regime.COLD_START: "both adapters of a pair, both seen early",
    Regime.DOMAIN: "a domain: its adapters seen early, the others known to their end",
    Regime.OPERATOR: "an operator: all adapters are known under others, and are seen early",
}


def protocol(of: Evaluation) -> Section:
    """Return what every other section rests on."""
    facts, settings = of.records.facts, of.settings
    text = (
        f"Bank {facts.bank}, {facts.base_model}, measured {facts.first_date} to {facts.last_date} on {facts.hardware}.",
        "A predictor is asked of merges only that share no left-out adapter with what it learnt from, and every merge "
        "is tested once in a regime. Where several members could be the new one, one is drawn. What is seen of an "
        "adapter early is its checkpoint at that share of training and those before it; gains, final scores and final "
        "norms are no features. Where a pair was not compared as a new adapter against a finished one, both are seen "
        "at that share: a bank keeps its early checkpoints.",
        "Baselines and the learned model are pair models, one adapter left out at a time (adapters that share a seed "
        f"or a preference together). Bounds, sets and policies need a whole predictor, fitted without each of "
        f"{settings.num_groups} groups of adapters (for the cold start, of two of {settings.num_cold_groups}).",
        f"Options of the headline: {_options(settings.headline)}. Of all else: {_options(settings.repeated)}.",
        "Every interval is a 95 % bootstrap over adapters; differences are paired; n counts what is said beside it.",
    )
    gaps = [
        f"Predictors, {regime}: too little is left to fit without {'; without '.join(tried.too_few)}."
        for regime, tried in of.predictors.items()
        if tried.too_few
    ]
    if not of.rhos:
        gaps.append("Features of adapters: nothing can be forecast without them.")
    return Section("protocol", "What was tested", text, present((_tested(of), _spent(of))), gaps=tuple(gaps))


def _options(options: FitOptions) -> str:
    return (
        f"{options.num_trees} trees of depth {options.depth}, {options.num_folds} folds inside, alpha {options.alpha:g}"
    )


def _tested(of: Evaluation) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for regime, tried in of.predictors.items():
        for rho, judged in tried.judged.items():
            sizes = {size: len(judged.of_size(size).rows) for size in judged.sizes}
            counts = ", ".join(f"{number} of {size}" for size, number in sizes.items())
            reworked = len(judged.rows) - sum(sizes.values())
            rows.append((str(regime), LEFT_OUT[regime], f"{rho:.0%}", len(judged.adapters), counts, reworked))
    columns = ("regime", "left out", "training seen", "adapters", "plain merges, by members", "reweighted or pruned")
    return Table("tested", "Merges that were forecast", columns, tuple(rows))


def _spent(of: Evaluation) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for kind in dict.fromkeys(one.kind for one in of.spent):
        some = [one for one in of.spent if one.kind == kind]
        num_fits, seconds = sum(one.num_fits for one in some), sum(one.seconds for one in some)
        rows.append((kind, num_fits, seconds / max(num_fits, 1), seconds))
    note = "Wall time, forecasts included."
    return Table("spent", "What it took", ("fitted", "fits", "seconds a fit", "seconds"), tuple(rows), note)
