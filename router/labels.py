"""A verdict as a label: what was measured, beside what had been forecast of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from router.forecasts import GroupForecast, bounded
from router.records import Verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """One member's retention, measured on its gate rows and predicted; the bound is None where it was infinite."""

    measured: float
    predicted: float
    lower_bound: float | None

    @property
    def error(self) -> float:
        """Measured less predicted: positive where the member keeps more than was hoped."""
        return self.measured - self.predicted

    @property
    def is_violation(self) -> bool:
        """Whether the member keeps less than its lower bound said: at most one in ten should."""
        return self.lower_bound is not None and self.measured < self.lower_bound


def against(verdict: Verdict, forecast: GroupForecast | None, predictor: str | None) -> Verdict:
    """Return a verdict with the forecast that it was measured against; as it is where there was none.

    Parameters
    ----------
    predictor
        Digest of who made the forecast.
    """
    if forecast is None:
        return verdict
    members = tuple(
        replace(
            member,
            predicted_retention=forecast.retention[member.revision],
            predicted_lower_bound=bounded(forecast.lower_bound[member.revision]),
        )
        for member in verdict.members
    )
    return replace(verdict, members=members, safe_probability=forecast.safe_probability, predictor=predictor)


def against_that_of(verdict: Verdict, earlier: Verdict) -> Verdict:
    """Return a verdict with the forecast that an earlier one on the same recipe was measured against."""
    before = {member.revision: member for member in earlier.members}
    members = tuple(
        replace(
            member,
            predicted_retention=before[member.revision].predicted_retention,
            predicted_lower_bound=before[member.revision].predicted_lower_bound,
        )
        if member.revision in before
        else member
        for member in verdict.members
    )
    return replace(verdict, members=members, safe_probability=earlier.safe_probability, predictor=earlier.predictor)


def comparisons(verdict: Verdict) -> Iterator[Comparison]:
    """Yield what was both measured and predicted."""
    for member in verdict.members:
        if member.gate is not None and member.predicted_retention is not None:
            yield Comparison(member.gate, member.predicted_retention, member.predicted_lower_bound)
