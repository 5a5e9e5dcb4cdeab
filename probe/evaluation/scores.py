"""What is said of forecasts in every table: one estimate each, with its interval over adapters and its n."""

from __future__ import annotations

import math

import numpy as np

from probe.bank.report.statistics import Estimate
from probe.evaluation.judged import Judgements, Safety, Sides, Worst, same_merges
from probe.evaluation.metrics import (
    auroc,
    brier,
    calibration_error,
    calibration_error_by_chance,
    lead,
    mean,
    mean_absolute_error,
    over_adapters,
    permutation_p_value,
    spearman,
)

MERGES, SIDES, SETS = "merges", "members", "sets"
"""Units: merges, members of merges (an ordered pair is a member of a merge of two), merges of three or more."""


def auroc_of(judged: Judgements) -> Estimate:
    """Return the AUROC of the safe label over merges."""
    known = judged.safety
    return over_adapters(auroc(known.probability, known.is_safe, known.compared), known.members, MERGES)


def brier_of(judged: Judgements) -> Estimate:
    """Return the Brier score of the probability that a merge is safe."""
    known = judged.safety
    return over_adapters(brier(known.probability, known.is_safe), known.members, MERGES)


def calibration_error_of(judged: Judgements) -> Estimate:
    """Return the expected calibration error over equal-mass bins."""
    known = judged.safety
    return over_adapters(calibration_error(known.probability, known.is_safe), known.members, MERGES)


def calibration_error_by_chance_of(judged: Judgements) -> float:
    """Return the calibration error that perfect probabilities would show on these merges."""
    probability = judged.safety.probability
    return calibration_error_by_chance(probability) if len(probability) else math.nan


def spearman_of(judged: Judgements) -> Estimate:
    """Return Spearman's correlation of forecast and measured Ret over members; sizes must not be mixed."""
    sides = judged.sides
    return over_adapters(spearman(sides.forecast, sides.measured, sides.compared), sides.members, SIDES)


def p_value_of(judged: Judgements) -> float:
    """Return the permutation p of the rank correlation within size, action and operator; NaN without members."""
    sides = judged.sides
    if not len(sides.measured):
        return math.nan
    return permutation_p_value(sides.forecast, sides.measured, sides.blocks, sides.strata)


def error_of(judged: Judgements) -> Estimate:
    """Return the mean absolute error of Ret over members."""
    sides = judged.sides
    return over_adapters(mean_absolute_error(sides.forecast, sides.measured), sides.members, SIDES)


def coverage_of(judged: Judgements) -> Estimate:
    """Return the share of members whose Ret reaches its lower bound, of those that have a bound."""
    return _coverage(judged.sides, SIDES)


def bounded_share_of(judged: Judgements) -> float:
    """Return the share of members that have a bound at all; NaN without members."""
    bound = judged.sides.bound
    return float(np.isfinite(bound).mean()) if len(bound) else math.nan


def radius_of(judged: Judgements) -> float:
    """Return the median distance from forecast to bound, of members that have one; NaN without any."""
    sides = judged.sides
    radius = (sides.forecast - sides.bound)[np.isfinite(sides.bound)]
    return float(np.median(radius)) if len(radius) else math.nan


def auroc_lead(one: Judgements, other: Judgements) -> Estimate:
    """Return by how much one learner's AUROC exceeds another's, on the merges that both were asked."""
    first, second = (judged.safety for judged in same_merges((one, other)))
    strata = _apart(first, second)
    metric = lead(*(auroc(one.probability, one.is_safe, strata) for one in (first, second)))
    return over_adapters(metric, first.members, MERGES)


def spearman_lead(one: Judgements, other: Judgements) -> Estimate:
    """Return by how much one learner's rank correlation exceeds another's, likewise."""
    first, second = (judged.sides for judged in same_merges((one, other)))
    strata = _apart(first, second)
    metric = lead(*(spearman(side.forecast, side.measured, strata) for side in (first, second)))
    return over_adapters(metric, first.members, SIDES)


def _apart(first: Safety | Sides, second: Safety | Sides) -> list[str]:
    """Return the strata within which both are compared: those of the one that has any, so that both are one figure."""
    return [one or other for one, other in zip(first.compared, second.compared, strict=True)]


def error_lead(one: Judgements, other: Judgements) -> Estimate:
    """Return by how much one learner's mean absolute error lies *under* another's, likewise: above 0 is better."""
    first, second = (judged.sides for judged in same_merges((one, other)))
    return _less_error(first, second, SIDES)


def worst_spearman_of(judged: Judgements) -> Estimate:
    """Return Spearman's correlation of forecast and measured worst Ret over sets; sizes must not be mixed."""
    worst = judged.worst
    return over_adapters(spearman(worst.forecast, worst.measured), worst.members, SETS)


def worst_error_of(judged: Judgements) -> Estimate:
    """Return the mean absolute error of the worst Ret over sets."""
    worst = judged.worst
    return over_adapters(mean_absolute_error(worst.forecast, worst.measured), worst.members, SETS)


def worst_coverage_of(judged: Judgements) -> Estimate:
    """Return the share of merges whose worst Ret reaches its lower bound, of those that have one."""
    return _coverage(judged.worst, MERGES)


def _coverage(found: Sides | Worst, unit: str) -> Estimate:
    has_bound = np.flatnonzero(np.isfinite(found.bound))
    covered = (found.measured >= found.bound)[has_bound]
    return over_adapters(mean(covered), [found.members[row] for row in has_bound], unit)


def worst_error_lead(one: Judgements, other: Judgements) -> Estimate:
    """Return by how much one learner's error of the worst Ret lies under another's, on the same sets."""
    first, second = (judged.worst for judged in same_merges((one, other)))
    return _less_error(first, second, SETS)


def _less_error(one: Sides | Worst, other: Sides | Worst, unit: str) -> Estimate:
    """Return by how much the mean absolute error of one lies under that of the other, over the same rows."""
    metric = lead(*(mean_absolute_error(found.forecast, found.measured) for found in (other, one)))
    return over_adapters(metric, one.members, unit)
