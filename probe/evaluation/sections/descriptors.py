"""Section 12: what data descriptors say of pairs beyond their domains (H7)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from probe.bank.report.section import PAPER, Cell, Section, Table, Verdict, present
from probe.bank.report.statistics import Estimate, Vector
from probe.evaluation.evaluation import Evaluation
from probe.evaluation.judged import NOTHING, Judgements
from probe.evaluation.metrics import over_adapters, spearman
from probe.evaluation.pair_learners import PAIR_LEARNERS
from probe.evaluation.scores import SIDES
from probe.evaluation.splits import Regime


def descriptors(of: Evaluation) -> Section:
    """Return the correlation of forecast and measured Ret within one pair of domains and one operator."""
    text = (
        "Forecasts and Ret of ordered pairs, each less its mean over pairs of the same two domains under the same "
        "operator: what is left differs by rank, data mix, data budget, learning rate and chance.",
    )
    found = {name: of.pairs[Regime.BANK_AWARE, name].get(of.rho, NOTHING).plain_pairs for name in PAIR_LEARNERS}
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (name, len(judged.adapters), _within(of, judged)) for name, judged in found.items() if judged.rows
    )
    title = "Within a pair of domains"
    table = Table("within", "Spearman within domains and operator", ("learner", "adapters", "Spearman"), rows)
    gaps = () if rows else ("No merge of two was forecast.",)
    return Section("descriptors", title, text, present((table,)), (), _verdicts(of, found["metadata only"]), gaps)


def _within(of: Evaluation, judged: Judgements) -> Estimate:
    sides = judged.sides
    domains = {adapter.name: adapter.domain for adapter in of.records.adapters}
    cells = [
        (stratum, *(domains[name] for name in members))
        for stratum, members in zip(sides.strata, sides.members, strict=True)
    ]
    forecast, measured = (_centred(column, cells) for column in (sides.forecast, sides.measured))
    return over_adapters(spearman(forecast, measured), sides.members, SIDES)


def _centred(column: Vector, cells: Sequence[tuple[object, ...]]) -> Vector:
    number = {cell: place for place, cell in enumerate(dict.fromkeys(cells))}
    place = np.array([number[cell] for cell in cells], dtype=np.int64)
    means = np.bincount(place, column, len(number)) / np.bincount(place, minlength=len(number))
    return np.asarray(column - means[place])


def _verdicts(of: Evaluation, metadata: Judgements) -> tuple[Verdict, ...]:
    return (
        Verdict(
            "H7",
            "Data descriptors capture data-induced differences of mergeability.",
            f"{PAPER}, Appendix C",
            f"Spearman of the metadata-only forecast with Ret within domains and operator, bank-aware at {of.rho:.0%}",
            _within(of, metadata) if metadata.rows else None,
        ),
    )
