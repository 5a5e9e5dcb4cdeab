"""What the policy would have served of every measured group, and what that was measured to keep.

Recipes are compared by what they add to a plan's score (`probe.plan_score`), every adapter weighing 1. A group is a set
of adapters that was merged; what may be chosen are the recipes that were measured of it, and routing, which keeps
Ret = 1 by construction and needs a module an adapter.

References
----------
MergeProbe, arXiv 2606.19549, Algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from probe.evaluation.judged import PLAIN, Judged, Judgements
from probe.plan_score import LAMBDA_COST, MIN_IMPROVEMENT, TARGET_RETENTION, expected_gain, group_gain, passing_chance

ROUTE = "route"
"""The action of keeping every member separate."""


@dataclass(frozen=True, slots=True)
class Served:
    """What one group gets: a measured recipe, or None where its members stay separate."""

    members: tuple[str, ...]
    chosen: Judged | None

    @property
    def action(self) -> str:
        """``merge``, ``reweight``, ``prune`` or ``route``."""
        return ROUTE if self.chosen is None else self.chosen.action

    @property
    def retention(self) -> tuple[float, ...]:
        """Measured Ret of every member; 1 for a separate one."""
        if self.chosen is None:
            return (1.0,) * len(self.members)
        return self.chosen.retention

    @property
    def average(self) -> float:
        """Mean Ret."""
        return math.fsum(self.retention) / len(self.members)

    @property
    def worst(self) -> float:
        """Least Ret."""
        return min(self.retention)

    @property
    def modules_an_adapter(self) -> float:
        """Engine modules over adapters: 1 where all are separate."""
        return 1.0 if self.chosen is None else 1 / len(self.members)

    @property
    def is_separate(self) -> float:
        """1 where the adapters are kept separate (the paper's "active" counts them), else 0."""
        return float(self.chosen is None)


Rule = Callable[[Sequence[Judged]], Judged | None]
"""Recipes that were measured of one group -> the one that is served; None routes."""
Gain = Callable[[Judged], float]
"""What a rule expects a recipe to add to the score of a plan."""


def bounded(target: float = TARGET_RETENTION, lambda_cost: float = LAMBDA_COST) -> Rule:
    """Return Algorithm 1: of the recipes whose members' lower bounds all reach the target, the best, if it gains."""
    return _best(
        lambda one: _gain(one, one.forecast.retention, lambda_cost), lambda one: min(one.forecast.lower_bound) >= target
    )


def hoped(target: float = TARGET_RETENTION, lambda_cost: float = LAMBDA_COST) -> Rule:
    """Return the rule that builds what may be expected to improve a plan: what exploration would verify."""

    def expected(one: Judged) -> float:
        forecast, uniform = one.forecast, dict.fromkeys(one.members, 1.0)
        kept = dict(zip(one.members, forecast.retention, strict=True))
        bounds = dict(zip(one.members, forecast.lower_bound, strict=True))
        chance = passing_chance(kept, bounds, forecast.safe_probability, target)
        return expected_gain(kept, uniform, lambda_cost, target, chance)

    return _best(expected, lambda _: True, MIN_IMPROVEMENT)


def forced(candidates: Sequence[Judged]) -> Judged | None:
    """Merge plainly whatever is forecast, by the operator that is forecast to keep most."""
    plain = [one for one in candidates if one.action == PLAIN]
    return max(plain, key=lambda one: _gain(one, one.forecast.retention, LAMBDA_COST), default=None)


def always(operator: str) -> Rule:
    """Return the rule that merges everything by one operator."""
    return lambda candidates: next(
        (one for one in candidates if one.operator == operator and one.action == PLAIN), None
    )


def clairvoyant(target: float = TARGET_RETENTION, lambda_cost: float = LAMBDA_COST) -> Rule:
    """Return the rule that knows the labels: the best recipe that was measured to reach the target."""
    return _best(lambda one: _gain(one, one.retention, lambda_cost), lambda one: one.worst >= target)


def _best(gain: Gain, is_feasible: Callable[[Judged], bool], least: float = 0.0) -> Rule:
    """Return the rule that chooses the feasible recipe that adds most, if that is more than the least."""

    def choose(candidates: Sequence[Judged]) -> Judged | None:
        gains = [(gain(one), one) for one in candidates if is_feasible(one)]
        best, chosen = max(gains, key=lambda found: found[0], default=(least, None))
        return chosen if best > least else None

    return choose


def _gain(one: Judged, retention: Sequence[float], lambda_cost: float) -> float:
    """Return what merging adds to a plan's score, if the members keep so much."""
    kept = dict(zip(one.members, retention, strict=True))
    return group_gain(kept, dict.fromkeys(kept, 1.0), lambda_cost)


def groups_of(judgements: Judgements) -> Mapping[tuple[str, ...], tuple[Judged, ...]]:
    """Return group -> its recipes of which every member's Ret was measured."""
    found: dict[tuple[str, ...], list[Judged]] = {}
    for row in judgements.rows:
        if math.isfinite(row.worst):
            found.setdefault(row.members, []).append(row)
    return {members: tuple(rows) for members, rows in found.items()}


def serve(groups: Mapping[tuple[str, ...], Sequence[Judged]], rule: Rule) -> tuple[Served, ...]:
    """Return what a rule serves of every group."""
    return tuple(Served(members, rule(candidates)) for members, candidates in groups.items())


def verified(served: Iterable[Served], target: float = TARGET_RETENTION) -> tuple[Served, ...]:
    """Return what is left once every merge was measured: what missed the target is routed."""
    return tuple(one if one.worst >= target else Served(one.members, None) for one in served)
