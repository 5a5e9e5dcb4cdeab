"""An evaluation that takes seconds: few trees, few groups, two families."""

from __future__ import annotations

import math

from probe.evaluation.judged import Judged, Judgements
from probe.evaluation.settings import Settings
from probe.predictors.forecast import Forecast, Merge, MergeRecipe
from probe.predictors.labelled_merges import LabelledMerge
from probe.predictors.options import FitOptions
from probe.signals import Family
from tests.planted_bank import Planting

PLANTING = Planting(per_domain=3, num_sets=9)
"""Conflict is a signal of the rank space; gradients are noise."""
OPTIONS = FitOptions(num_trees=20, depth=3, num_folds=3, columns_per_block=4)
SETTINGS = Settings(
    rhos=(0.1,),
    num_groups=3,
    num_cold_groups=3,
    families=(Family.RANK_SPACE, Family.GRADIENT),
    headline=OPTIONS,
    repeated=OPTIONS,
)


def judged(
    members: tuple[str, ...],
    measured: tuple[float | None, ...],
    forecast: tuple[float, ...],
    *,
    radius: float = 0.0,
    operator: str = "ta",
    weights: tuple[float, ...] | None = None,
    is_safe: bool | None = None,
    probability: float = 0.5,
    stratum: str = "",
) -> Judged:
    """Return one merge as it was measured and forecast."""
    recipe = MergeRecipe(operator, weights=weights)
    found = Forecast(
        members=members,
        retention=forecast,
        lower_bound=tuple(ret - radius for ret in forecast),
        macro=math.fsum(forecast) / len(forecast),
        worst=min(forecast),
        worst_lower_bound=min(forecast) - radius,
        safe_probability=probability,
        group="all",
        num_labels=10,
    )
    return Judged(
        LabelledMerge(Merge(members, recipe), measured, None if is_safe is None else (is_safe,) * len(members)),
        found,
        stratum,
    )


def judgements(*rows: Judged) -> Judgements:
    return Judgements(rows)
