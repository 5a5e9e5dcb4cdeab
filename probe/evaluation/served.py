"""What a rule of serving is worth over groups: mean and worst measured Ret, and both counts of active modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from probe.bank.report.statistics import Estimate, Vector
from probe.evaluation.metrics import lead, mean, over_adapters
from probe.evaluation.policy import Served

GROUPS = "groups"


@dataclass(frozen=True)
class Plan:
    """What one rule serves of every group, in the order of the groups."""

    served: tuple[Served, ...]

    @property
    def average(self) -> Estimate:
        """Mean over groups of the mean Ret."""
        return self._mean(lambda one: one.average)

    @property
    def worst(self) -> Estimate:
        """Mean over groups of the least Ret."""
        return self._mean(lambda one: one.worst)

    @property
    def modules(self) -> Estimate:
        """Engine modules an adapter: 1 where all are separate."""
        return self._mean(lambda one: one.modules_an_adapter)

    @property
    def separate(self) -> Estimate:
        """Share of groups whose adapters are kept separate: what the paper counts as active."""
        return self._mean(lambda one: one.is_separate)

    @property
    def num_merged(self) -> int:
        """Groups that are merged."""
        return sum(one.chosen is not None for one in self.served)

    def _mean(self, value: Callable[[Served], float]) -> Estimate:
        return over_adapters(mean(_values(self, value)), [one.members for one in self.served], GROUPS)


def worst_lead(one: Plan, other: Plan) -> Estimate:
    """Return by how much the mean worst Ret of one plan exceeds that of another over the same groups."""
    first, second = (mean(_values(plan, lambda served: served.worst)) for plan in (one, other))
    return over_adapters(lead(first, second), [served.members for served in one.served], GROUPS)


def worst_lead_at_equal_cost(plan: Plan, fixed: Sequence[Plan]) -> Estimate:
    """Return by how much a plan's worst Ret exceeds that of the best of some fixed operators at the same cost.

    A fixed operator that merges the share of groups that the plan merges, whichever they are, keeps that share of what
    it keeps where it merges all, and 1 elsewhere. The best operator is chosen in hindsight, in every resample.
    """
    worst = mean(_values(plan, lambda one: one.worst))
    separate = mean(_values(plan, lambda one: one.is_separate))
    rivals = [mean(_values(other, lambda one: one.worst)) for other in fixed]

    def ahead(weights: Vector) -> Vector:
        best = np.max([rival(weights) for rival in rivals], axis=0)
        share = separate(weights)
        return np.asarray(worst(weights) - (share + (1 - share) * best))

    return over_adapters(ahead, [one.members for one in plan.served], GROUPS)


def area(frontier: Sequence[Plan]) -> Estimate:
    """Return the area under the retention-cost curve: mean Ret over modules an adapter, from the cheapest plan to 1.

    Parameters
    ----------
    frontier
        Plans over the same groups, one that merges all and one that routes all among them.
    """
    costs, kept = (
        [mean(_values(plan, value)) for plan in frontier]
        for value in (lambda one: one.modules_an_adapter, lambda one: one.average)
    )

    def under(weights: Vector) -> Vector:
        x, y = (np.stack([one(weights) for one in many]) for many in (costs, kept))
        order = np.argsort(x, axis=0, kind="stable")
        x, y = (np.take_along_axis(one, order, axis=0) for one in (x, y))
        return np.asarray(np.trapezoid(y, x, axis=0) / (x[-1] - x[0]))

    return over_adapters(under, [one.members for one in frontier[0].served], GROUPS)


def _values(plan: Plan, value: Callable[[Served], float]) -> Vector:
    return np.array([value(one) for one in plan.served], dtype=np.float64)
