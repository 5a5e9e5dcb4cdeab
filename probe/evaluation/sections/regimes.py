"""Section 2: how good forecasts are, by regime and by how much of training was seen; Figure 1a."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from probe.bank.report.charts import Curves, Series
from probe.bank.report.section import OURS, PAPER, Cell, Figure, Section, Table, Verdict, present
from probe.evaluation.evaluation import Evaluation
from probe.evaluation.judged import NOTHING, Judgements
from probe.evaluation.pair_learners import LEARNED
from probe.evaluation.scores import auroc_lead, auroc_of, error_of, p_value_of, spearman_of
from probe.evaluation.settings import EARLY
from probe.evaluation.splits import Regime
from probe.predictors.known_features import FINAL

USEFUL = 0.05
"""Share of training from which the paper finds forecasts useful."""
SATURATED = 0.05
"""AUROC that more training may still add where forecasts have "saturated"."""
AIM = 0.85
"""Our aim: AUROC with one adapter left out, at 10 % of training."""


def regimes(of: Evaluation) -> Section:
    """Return accuracy in every regime at every share of training."""
    text = (
        "AUROC is of the safe label (M >= 0.6, no member drops by more than 0.15) of plain merges of two; Spearman and "
        "error are of each member's Ret in them. The permutation p is that of Ret changing places among merges by one "
        "operator: it does not know that merges share adapters, the interval does.",
        "Where an operator is held out, merges are compared within that operator only: its level is not forecast.",
    )
    return Section("regimes", "Regimes", text, present((_accuracy(of),)), _figures(of), _verdicts(of), _gaps(of))


def _pairs(of: Evaluation, regime: Regime, rho: float) -> Judgements:
    return of.pairs[regime, LEARNED].get(rho, NOTHING).plain_pairs


def _accuracy(of: Evaluation) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for (regime, name), by_rho in of.pairs.items():
        for rho, judged in by_rho.items() if name == LEARNED else ():
            pairs = judged.plain_pairs
            if pairs.rows:
                found = (auroc_of(pairs), spearman_of(pairs), p_value_of(pairs), error_of(pairs))
                rows.append((str(regime), f"{rho:.0%}", len(pairs.adapters), *found))
    columns = ("regime", "training seen", "adapters", "AUROC", "Spearman", "permutation p", "absolute error of Ret")
    return Table("accuracy", "Accuracy over pairs, learned model", columns, tuple(rows))


def _figures(of: Evaluation) -> tuple[Figure, ...]:
    lines = []
    for regime in Regime:
        found = [(rho, auroc_of(_pairs(of, regime, rho))) for rho in of.rhos]
        known = [(100 * rho, one) for rho, one in found if math.isfinite(one.value)]
        if known:
            lines.append(Series(str(regime), tuple(rho for rho, _ in known), tuple(one for _, one in known)))
    figures = []
    if lines:
        caption = "Figure 1a, measured: AUROC by share of training seen; error bars: 95 % bootstrap over adapters."
        chart = Curves(tuple(lines), "% of training seen", "AUROC of the safe label", 0.5, is_log=True)
        figures.append(Figure("auroc", caption, chart))
    return tuple(figures)


def _verdicts(of: Evaluation) -> tuple[Verdict, ...]:
    early, useful, final = (_pairs(of, Regime.BANK_AWARE, rho) for rho in (EARLY, USEFUL, FINAL))
    verdicts = [
        Verdict(
            "Aim, AUROC",
            f"At {EARLY:.0%} of training the safe label of a new adapter is forecast with an AUROC of {AIM:g} or more.",
            OURS,
            "AUROC, bank-aware, one adapter left out",
            auroc_of(early) if early.rows else None,
            null=AIM,
        ),
        Verdict(
            "5.4, useful early",
            f"Forecasts are useful from {USEFUL:.0%} of training.",
            f"{PAPER}, Section 5.4",
            f"AUROC at {USEFUL:.0%}, bank-aware",
            auroc_of(useful) if useful.rows else None,
            null=0.5,
        ),
        Verdict(
            "5.4, saturates",
            f"Forecasts saturate around {EARLY:.0%}: the rest of training adds less than {SATURATED:g} to the AUROC.",
            f"{PAPER}, Section 5.4",
            f"AUROC at the end less that at {EARLY:.0%}, bank-aware, same merges",
            auroc_lead(final, early) if final.rows and early.rows else None,
            null=SATURATED,
            is_above=False,
        ),
    ]
    return (*verdicts, *_transfer(of, _pairs(of, Regime.BANK_AWARE, of.rho)))


_TRANSFERS: Mapping[Regime, str] = {Regime.DOMAIN: "domains", Regime.OPERATOR: "operators"}
GRACEFUL = 0.05
"""AUROC that may be lost where forecasts "degrade only gracefully"."""


def _transfer(of: Evaluation, bank_aware: Judgements) -> Iterator[Verdict]:
    for regime, across in _TRANSFERS.items():
        pairs = _pairs(of, regime, of.rho)
        yield Verdict(
            f"H6, {across}",
            f"Forecasts transfer across {across}: they are better than chance where one is held out.",
            f"{PAPER}, Appendix C",
            f"AUROC, {regime}, at {of.rho:.0%}",
            auroc_of(pairs) if pairs.rows else None,
            null=0.5,
        )
    for regime in (Regime.COLD_START, *_TRANSFERS):
        pairs = _pairs(of, regime, of.rho)
        yield Verdict(
            f"5.5, graceful, {regime}",
            f"Forecasts degrade only gracefully: less than {GRACEFUL:g} of the bank-aware AUROC is lost.",
            f"{PAPER}, Section 5.5",
            f"AUROC, {regime}, less bank-aware, same merges, at {of.rho:.0%}",
            auroc_lead(pairs, bank_aware) if pairs.rows and bank_aware.rows else None,
            null=-GRACEFUL,
        )


def _gaps(of: Evaluation) -> tuple[str, ...]:
    if not of.rhos:
        return ("No share of training is known at which adapters could be seen.",)
    return tuple(
        f"{regime} at {rho:.0%}: no merge was measured in that state, or too little is left to learn from."
        for regime in Regime
        for rho in of.rhos
        if not _pairs(of, regime, rho).rows
    )
