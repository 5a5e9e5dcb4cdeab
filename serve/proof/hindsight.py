"""How right the forecasts were of a bank that no predictor has seen: every group of it was measured afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from probe.bank.report.section import Cell, Section, Table
from probe.bank.report.statistics import Estimate
from probe.evaluation.metrics import lead, mean, mean_absolute_error, over_adapters, spearman
from router.forecasts import GroupForecast
from serve.proof.contest import Contest
from serve.proof.recorded_forecasts import cosines

GROUPS, MEMBERS = "merges", "members of merges"
NOTE = (
    "Rank correlation with the Ret of the worst member, of its forecast and of the least cosine between members, among "
    "groups of one size and operator; error and coverage are of members. Intervals over adapters; Ret is that of "
    "report rows, whose noise counts as error."
)


@dataclass(frozen=True, slots=True)
class _Group:
    """A merge, what was forecast of it, the least cosine of its members, and member -> Ret on report rows."""

    members: tuple[str, ...]
    operator: str
    forecast: GroupForecast
    cosine: float
    told: Mapping[str, float]

    @property
    def stratum(self) -> tuple[int, str]:
        """Size and operator: groups of others are not ranked beside these, or their level would count as a forecast."""
        return len(self.members), self.operator


def hindsight(contest: Contest) -> Section:
    """Compare every forecast with what was measured, by size of the group."""
    groups = _groups(contest)
    sizes = sorted({len(one.members) for one in groups})
    rows = [_row(f"groups of {size}", [one for one in groups if len(one.members) == size]) for size in sizes]
    columns = ("merges", "forecast", "cosine", "lead", "error of Ret", "Ret not under its 90 % bound")
    table = Table("hindsight", "Forecasts and measurements", columns, (*rows, _row("all", groups)), NOTE)
    return Section("hindsight", "How right the forecasts were", tables=(table,))


def _groups(contest: Contest) -> list[_Group]:
    recipes, cosine = contest.bank.groups, cosines(contest.bank)
    return [
        _Group(
            recipe.members,
            recipe.operator,
            forecast,
            min(cosine[frozenset(pair)] for pair in combinations(recipe.members, 2)),
            contest.bank.told(recipe),
        )
        for recipe, forecast in zip(recipes, contest.forecasts.groups(recipes), strict=True)
        if forecast is not None
    ]


def _row(name: str, groups: Sequence[_Group]) -> tuple[Cell, ...]:
    worst, strata = np.array([min(one.told.values()) for one in groups]), [one.stratum for one in groups]
    by_forecast = spearman(np.array([min(one.forecast.retention.values()) for one in groups]), worst, strata)
    by_cosine = spearman(np.array([one.cosine for one in groups]), worst, strata)
    orders = (by_forecast, by_cosine, lead(by_forecast, by_cosine))
    return (name, *(over_adapters(order, [one.members for one in groups], GROUPS) for order in orders), *_told(groups))


def _told(groups: Sequence[_Group]) -> tuple[Estimate, Estimate]:
    """Return the error of a member's forecast, and the share of those with a bound that keep it."""
    placed = [(one, member) for one in groups for member in one.members]
    kept = np.array([one.told[member] for one, member in placed])
    forecast = np.array([one.forecast.retention[member] for one, member in placed])
    bound = np.array([one.forecast.lower_bound[member] for one, member in placed])
    error = over_adapters(mean_absolute_error(forecast, kept), [one.members for one, _ in placed], MEMBERS)
    bounded = np.flatnonzero(np.isfinite(bound))
    is_kept = mean((kept >= bound)[bounded])
    return error, over_adapters(is_kept, [placed[row][0].members for row in bounded], MEMBERS)
