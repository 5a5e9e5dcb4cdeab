"""Section 6: what other weights trade: one member's retention against the other's."""

from __future__ import annotations

from dataclasses import dataclass

from probe.bank.report.charts import Cloud, Scatter
from probe.bank.report.measurements import Measurements
from probe.bank.report.section import Cell, Figure, Section, Table
from probe.bank.report.statistics import mean_over_pairs

MAX_CURVES = 8
"""Colours that a reader can tell apart."""

Pair = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """One pair under one operator: (weights, Ret of the first, Ret of the second), by rising share of the first."""

    members: Pair
    operator: str
    points: tuple[tuple[tuple[float, ...], float, float], ...]

    @property
    def equal(self) -> float:
        """Worst Ret at equal weights."""
        return next(min(first, second) for weights, first, second in self.points if len(set(weights)) == 1)

    @property
    def best(self) -> float:
        """Best worst Ret over the weights tried."""
        return max(min(first, second) for _, first, second in self.points)


def reweighting(bank: Measurements) -> Section:
    """Return the trade-off curves of the pairs that were merged with several weights."""
    title = "Reweighting: what other weights trade"
    curves = _curves(bank)
    if not curves:
        return Section("reweighting", title, gaps=("No pair was merged with equal and with other weights.",))
    text = (
        "The same pair with other weights. The best weights are chosen on the rows that score them, so the gain is "
        "optimistic: an upper bound of what reweighting would give.",
    )
    clouds = tuple(
        Cloud(" + ".join(one.members), tuple(p[1] for p in one.points), tuple(p[2] for p in one.points))
        for one in curves[:MAX_CURVES]
    )
    caption = (
        f"Ret of both members as their weights change, {len(clouds)} of {len(curves)} pairs; up and right is better."
    )
    chart = Scatter(clouds, "Ret of the first member", "Ret of the second member", is_joined=True)
    return Section("reweighting", title, text, (_summary(curves), _table(curves)), (Figure("curves", caption, chart),))


def _curves(bank: Measurements) -> list[Curve]:
    is_asked = (bank.sound["size"] == 2) & bank.sound["is_trained"] & bank.sound["action"].isin(["merge", "reweight"])
    found: dict[tuple[Pair, str], dict[tuple[float, ...], dict[str, float]]] = {}
    for row in bank.sound[is_asked.astype(bool)].itertuples():
        weights = row.label.weights or (1.0,) * len(row.members)
        found.setdefault((row.members, row.operator), {}).setdefault(tuple(weights), {})[row.adapter] = row.ret
    curves = [_curve(members, operator, by_weights) for (members, operator), by_weights in sorted(found.items())]
    return [
        one for one in curves if len(one.points) > 1 and any(len(set(weights)) == 1 for weights, _, _ in one.points)
    ]


def _curve(members: Pair, operator: str, by_weights: dict[tuple[float, ...], dict[str, float]]) -> Curve:
    first, second = members
    points = [(weights, of[first], of[second]) for weights, of in by_weights.items() if set(of) == set(members)]
    return Curve(members, operator, tuple(sorted(points, key=lambda point: point[0][0] / sum(point[0]))))


def _summary(curves: list[Curve]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for operator in sorted({one.operator for one in curves}):
        of = [one for one in curves if one.operator == operator]
        gains = mean_over_pairs([one.best - one.equal for one in of], [one.members for one in of], "pairs")
        rows.append((operator, len(of), gains))
    return Table("summary", "Worst Ret: best weights less equal weights", ("operator", "pairs", "gain"), tuple(rows))


def _table(curves: list[Curve]) -> Table:
    rows = [
        (" + ".join(one.members), one.operator, ", ".join(f"{weight:g}" for weight in weights), first, second)
        for one in curves
        for weights, first, second in one.points
    ]
    columns = ("pair", "operator", "weights", "Ret of the first", "Ret of the second")
    return Table("points", "Every weighting", columns, tuple(rows))
