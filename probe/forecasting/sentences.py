"""An early forecast in plain sentences."""

from __future__ import annotations

import math

from probe.bank.report.statistics import Estimate
from probe.forecasting.advice import Advice
from probe.forecasting.early_forecast import EarlyForecast, PartnerForecast
from probe.retention import retention_in_words


def of_partner(found: EarlyForecast, partner: PartnerForecast) -> str:
    """Say what both are predicted to keep beside each other, under the recipe that comes closest to passing."""
    best = partner.best
    own = retention_in_words(best.retention, best.lower_bound)
    theirs = retention_in_words(best.other_retention, best.other_lower_bound)
    return (
        f"Merged by {best.recipe.operator}, {found.name} is predicted to keep {own} and {partner.name} {theirs}; "
        f"{partner.conflict.sentence}."
    )


def of_most_conflicting(found: EarlyForecast) -> str:
    """Say who conflicts most, and where."""
    partner = found.most_conflicting
    kept = retention_in_words(partner.best.worst, partner.best.worst_lower_bound)
    return (
        f"{partner.name} conflicts most with {found.name}: the one that suffers more is predicted to keep {kept}; "
        f"{partner.conflict.sentence}."
    )


def of_gain(found: EarlyForecast) -> str:
    """Say how much of the best known gain the adapter is predicted to reach."""
    if math.isnan(found.gain):
        return f"What {found.name} will gain is not predicted: the predictor was fitted on records without gains."
    return (
        f"{found.name} is predicted to reach {found.gain:.0%} of the gain that the best adapter of its task has over "
        "the base (G)."
    )


def of_knowledge(found: EarlyForecast) -> str:
    """Say what the forecast rests on, and that less makes the bound wider."""
    seen = "the finished adapter" if found.rho >= 1 else f"{found.rho:.0%} of training"
    if found.reads_rows:
        return f"This rests on {seen}, and on rows of both run through the base model where both have some."
    return (
        f"This rests on {seen}, and on the weights alone: the bounds are as wide as such forecasts were measured to be "
        "off. Calibration rows and the base model narrow them."
    )


def of_advice(one: Advice) -> str:
    """Say what a change was measured to do, to the merges and to the adapter itself."""
    kept = (
        f"With {one.change}, merges were measured to keep {one.retention.value:.2f} more of the gain "
        f"({interval(one.retention)}; {one.retention.n} {one.retention.unit} that are otherwise alike, "
        f"{one.num_merges} merges)"
    )
    if not one.gain.is_bounded:
        return f"{kept}; too little is known of what it does to the adapter alone."
    if one.gain.low <= 0 <= one.gain.high:
        return f"{kept}; alone, no difference is clear (G {one.gain.value:+.2f}, {interval(one.gain)})."
    change = "more" if one.gain.value > 0 else "less"
    return f"{kept}; alone, such adapters reach {abs(one.gain.value):.2f} {change} (G, {interval(one.gain)})."


def interval(one: Estimate) -> str:
    """Return a 95 % interval in words."""
    return f"95 % interval {one.low:.2f} to {one.high:.2f}"
