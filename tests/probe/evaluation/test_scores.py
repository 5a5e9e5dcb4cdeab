"""Estimates that are told of forecasts."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

from probe.evaluation.judged import Judged, Judgements
from probe.evaluation.scores import auroc_lead, spearman_lead
from tests.probe.evaluation.small import judged, judgements


def test_the_same_forecasts_lead_by_nothing_though_one_side_is_compared_within_operators() -> None:
    pooled = _merges()
    within = Judgements(tuple(replace(row, stratum=row.operator) for row in pooled.rows))
    for lead in (auroc_lead, spearman_lead):
        assert lead(within, pooled).value == 0
        assert lead(pooled, within).value == 0


def _merges() -> Judgements:
    """Return merges by a good and a poor operator, of which the forecast knows the level and little else."""
    rows = list[Judged]()
    for number, members in enumerate(combinations("abcdef", 2)):
        for level, operator in ((0.9, "ta"), (0.3, "mean")):
            kept, told = level + 0.01 * (number % 3), level + 0.01 * (number % 2)
            rows.append(
                judged(
                    members,
                    (kept, kept),
                    (told, told),
                    operator=operator,
                    is_safe=kept > 0.905 or number % 5 == 0,
                    probability=told,
                )
            )
    return judgements(*rows)
