"""The baselines beside the learned model, on the same merges."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from probe.evaluation.evaluation import Evaluation
from probe.evaluation.judged import NOTHING, Judgements
from probe.evaluation.pair_learners import LEARNED, PAIR_LEARNERS
from probe.evaluation.scores import auroc_of
from probe.evaluation.settings import LESSONS, MERGES, PERMUTED
from probe.evaluation.splits import Regime


@dataclass(frozen=True, slots=True)
class Rival:
    """A baseline beside the learned model: what it knows, its forecasts, and those of the model that it rivals."""

    name: str
    knows: str
    judged: Judgements
    model: Judgements


def model_of(of: Evaluation, regime: Regime = Regime.BANK_AWARE) -> Judgements:
    """Return the learned model's forecasts of plain pairs at the share of training that is judged."""
    return of.pairs[regime, LEARNED].get(of.rho, NOTHING).plain_pairs


def rivals(of: Evaluation, regime: Regime) -> Iterator[Rival]:
    """Yield the baselines that were asked something; the permutation null beside a model that left out as much."""
    model = model_of(of, regime)
    for name, row in PAIR_LEARNERS.items():
        judged = of.pairs[regime, name].get(of.rho, NOTHING).plain_pairs
        if name != LEARNED and judged.rows:
            yield Rival(name, row.knows, judged, model)
    null, everything = (lesson(of, kind) for kind in (PERMUTED, MERGES))
    if regime is Regime.BANK_AWARE and null.rows:
        yield Rival(PERMUTED, "labels that changed places; the same trees", null, everything)


def lesson(of: Evaluation, kind: str, amount: float = 1.0) -> Judgements:
    """Return what was forecast of plain pairs after one lesson (`LESSONS`)."""
    number = next(n for n, one in enumerate(LESSONS) if (one.kind, one.amount) == (kind, amount))
    return of.lessons[number][1].plain_pairs


def best_rival(of: Evaluation, regime: Regime = Regime.BANK_AWARE) -> Rival | None:
    """Return the baseline with the highest AUROC; None without any."""
    found = [(auroc_of(one.judged).value, one) for one in rivals(of, regime)]
    known = [(value, one) for value, one in found if math.isfinite(value)]
    return max(known, key=lambda item: item[0])[1] if known else None
