"""Section 9: what larger sets keep, and whether their pairs foretell it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from probe.bank.mergeability import set_score
from probe.bank.report.charts import Cloud, Curves, Scatter, Series
from probe.bank.report.measurements import Measurements
from probe.bank.report.section import PAPER, Cell, Figure, Section, Table, Verdict, present
from probe.bank.report.statistics import (
    NUM_RESAMPLES,
    Estimate,
    estimate,
    generator,
    mean_over_units,
    weighted_spearman,
)

MIN_SHARE_OF_PAIRS = 0.5
"""Least share of a set's ordered pairs that must have been measured to foretell it: a bank samples its pairs."""


@dataclass(frozen=True, slots=True)
class Merged:
    """One set under one operator.

    Attributes
    ----------
    macro, worst
        Mean and least Ret.
    score
        Mean G x Ret; NaN where a member's G is unknown.
    least_pair, mean_pair
        What its pairs foretell; NaN where too few are known.
    """

    members: tuple[str, ...]
    operator: str
    macro: float
    worst: float
    score: float
    least_pair: float
    mean_pair: float

    @property
    def size(self) -> int:
        """Members."""
        return len(self.members)


def set_size(bank: Measurements) -> Section:
    """Return macro and worst Ret by number of members, and forecasts from pairs within each size."""
    title = "Set size"
    merged = _merged(bank)
    asked = (
        (any(one.size > 2 for one in merged), "No set of three or more was measured in full."),
        (bool(_known(merged)), "No set of three or more has enough of its pairs measured under its operator."),
    )
    gaps = tuple(sentence for is_there, sentence in asked if not is_there)
    if not merged:
        return Section("set-size", title, gaps=gaps)
    text = (
        "A set counts where every member's label is sound. Macro is the mean over its members, worst the least. The "
        f"score of a set ({PAPER}, Section 2.3) is the mean of G x Ret: what is kept counts by what the adapter gained "
        "alone; sets with an unknown G are not in it. Intervals: bootstrap over sets; sets share adapters, so they are "
        "rather too narrow.",
        "Min-of-pairs: the least Ret(i <- j) over the ordered pairs of the set that were measured under the "
        f"same operator, at least {MIN_SHARE_OF_PAIRS:.0%} of them. Its correlation with the measured worst is taken "
        "within one set size.",
    )
    return Section(
        "set-size",
        title,
        text,
        present((_table(merged), _forecast_table(merged))),
        _figures(merged),
        _verdicts(merged),
        gaps,
    )


def _merged(bank: Measurements) -> list[Merged]:
    pairs = bank.pairs.groupby(["adapter", "other", "operator"])["ret"].mean().to_dict()
    merged = []
    for (members, operator), group in bank.merges.groupby(["members", "operator"], sort=True):
        if set(group["adapter"]) == set(members):
            ret = group["ret"].to_numpy(float)
            score = set_score(ret, [bank.ceilings.normalised_gain(name) for name in group["adapter"]])
            forecast = _forecast([pairs.get((one, other, operator)) for one, other in permutations(members, 2)])
            merged.append(Merged(members, operator, float(ret.mean()), float(ret.min()), score, *forecast))
    return merged


def _forecast(ret: Sequence[float | None]) -> tuple[float, float]:
    """Return the least and the mean Ret of a set's ordered pairs; NaN where too few of them were measured."""
    known = [one for one in ret if one is not None]
    if len(known) < MIN_SHARE_OF_PAIRS * len(ret):
        return math.nan, math.nan
    return min(known), math.fsum(known) / len(known)


def _groups(merged: list[Merged]) -> dict[tuple[str, int], list[Merged]]:
    groups: dict[tuple[str, int], list[Merged]] = {}
    for one in sorted(merged, key=lambda one: (one.operator, one.size, one.members)):
        groups.setdefault((one.operator, one.size), []).append(one)
    return groups


def _mean(of: list[Merged], name: str) -> Estimate:
    values = [getattr(one, name) for one in of]
    return mean_over_units([value for value in values if math.isfinite(value)], "sets")


def _table(merged: list[Merged]) -> Table:
    means = ("macro", "worst", "score")
    rows: list[tuple[Cell, ...]] = []
    for (operator, size), of in _groups(merged).items():
        rows.append((operator, size, *(_mean(of, name) for name in means)))
    return Table("sizes", "Retention by number of members", ("operator", "members", *means), tuple(rows))


def _known(of: list[Merged]) -> list[Merged]:
    return [one for one in of if math.isfinite(one.least_pair) and one.size > 2]


def _forecast_table(merged: list[Merged]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for (operator, size), of in _groups(merged).items():
        known = _known(of)
        if known:
            least, mean = _forecasts(known)
            bias = mean_over_units([one.least_pair - one.worst for one in known], "sets")
            rows.append((operator, size, least, mean, bias))
    columns = ("operator", "members", "Spearman, min of pairs", "Spearman, mean of pairs", "min of pairs less worst")
    return Table(
        "forecast",
        "Do pairs foretell the worst of a set?",
        columns,
        tuple(rows),
        "Positive bias: sets do worse than their worst pair.",
    )


def _forecasts(known: list[Merged]) -> tuple[Estimate, Estimate]:
    worst, least, mean = (
        np.asarray([getattr(one, name) for one in known]) for name in ("worst", "least_pair", "mean_pair")
    )
    weights = generator().exponential(size=(NUM_RESAMPLES, len(known)))
    whole = np.ones((1, len(known)))
    return tuple(  # type: ignore[return-value]
        estimate(
            float(weighted_spearman(of, worst, whole)[0]), weighted_spearman(of, worst, weights), len(known), "sets"
        )
        for of in (least, mean)
    )


def _figures(merged: list[Merged]) -> tuple[Figure, ...]:
    groups = _groups(merged)
    lines = []
    for operator in sorted({operator for operator, _ in groups}):
        sizes = [size for name, size in groups if name == operator]
        lines.append(
            Series(operator, tuple(map(float, sizes)), tuple(_mean(groups[operator, size], "worst") for size in sizes))
        )
    caption = "Worst Ret of a set by its number of members; error bars: 95 % bootstrap over sets."
    figures = [Figure("sizes", caption, Curves(tuple(lines), "members", "worst Ret, mean over sets", 1.0))]
    clouds = tuple(
        _cloud(size, [one for one in _known(merged) if one.size == size])
        for size in sorted({one.size for one in _known(merged)})
    )
    if clouds:
        chart = Scatter(clouds, "least Ret of its pairs", "worst Ret of the set", has_diagonal=True)
        figures.append(Figure("forecast", "One point a set and operator: does its worst pair foretell it?", chart))
    return tuple(figures)


def _cloud(size: int, of: list[Merged]) -> Cloud:
    return Cloud(f"{size} members (n = {len(of)})", tuple(one.least_pair for one in of), tuple(one.worst for one in of))


def _verdicts(merged: list[Merged]) -> tuple[Verdict, ...]:
    """Ask for the weakest link in the (operator, size) with most sets: never pooled over either."""
    groups = {key: _known(of) for key, of in _groups(merged).items() if _known(of)}
    if not groups:
        return ()
    (operator, size), known = max(groups.items(), key=lambda item: len(item[1]))
    worst, least, mean = (
        np.asarray([getattr(one, name) for one in known]) for name in ("worst", "least_pair", "mean_pair")
    )
    weights = np.concatenate([np.ones((1, len(known))), generator().exponential(size=(NUM_RESAMPLES, len(known)))])
    lead = weighted_spearman(least, worst, weights) - weighted_spearman(mean, worst, weights)
    return (
        Verdict(
            key="Weakest link",
            claim="The worst pair of a set governs its damage, not the average pair.",
            source=f"{PAPER}, Section 5.6",
            measure=f"Spearman with worst Ret: min of pairs less mean of pairs ({operator}, {size} members)",
            estimate=estimate(float(lead[0]), lead[1:], len(known), "sets"),
        ),
    )
