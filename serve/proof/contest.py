"""The contest: one bank, one set of rules, and what measuring costs each who plans it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from probe.plan_score import group_gain
from router.bank_state import Settings
from router.forecast_planner import ForecastPlanner
from router.partition import Group, best_partition, gain_of
from router.records import Recipe, Verdict
from router.replay import Replay
from serve.proof.recorded_bank import RecordedBank, names
from serve.proof.recorded_forecasts import RecordedForecasts

NUM_ORDERS = 200
"""Random orders of verification that are averaged over."""

Plan = tuple[Recipe, ...]
"""The groups that are merged; everybody else is separate."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a method comes to.

    Attributes
    ----------
    plans
        One, or several where chance decides: all are equally likely.
    num_verified
        Merges that were measured on the way.
    """

    plans: tuple[Plan, ...]
    num_verified: int = 0


@dataclass(frozen=True)
class Contest:
    """A bank that several methods plan.

    Attributes
    ----------
    settings
        Everybody's: what a module costs, what members must keep, which recipes there are.
    """

    bank: RecordedBank
    forecasts: RecordedForecasts
    settings: Settings
    seed: int = 0

    def verdict(self, recipe: Recipe) -> Verdict:
        """Return the judge's verdict on a recipe."""
        return self.bank.judge(recipe, self.settings.target_retention)

    @cached_property
    def mergeprobe(self) -> Outcome:
        """What MergeProbe comes to: the others are given its cost, or its budget."""
        replay = Replay(ForecastPlanner(self.settings, self.forecasts), self.bank.candidates, self.verdict)
        return Outcome((replay.settle().groups,), len(replay.verdicts))

    @property
    def num_modules(self) -> int:
        """Engine modules of MergeProbe's plan."""
        return num_modules(self.bank, self.mergeprobe.plans[0])

    def passed(self, recipes: Sequence[Recipe]) -> list[Group]:
        """Return those of some recipes that the judge lets serve."""
        return [_group(one, self.settings) for one in map(self.verdict, recipes) if one.passed]

    def random_orders(self) -> Iterator[list[Recipe]]:
        """Yield the bank's groups in one random order after the other."""
        for number in range(NUM_ORDERS):
            order = list(self.bank.groups)
            random.Random(f"order {self.seed} {number}").shuffle(order)  # noqa: S311 - a draw, not a key
            yield order

    @cached_property
    def random_verifications(self) -> tuple[int, ...]:
        """Return, for each random order, how many merges it measures until its plan is as good as MergeProbe's.

        By the plan's score on gate rows: what a controller knows.
        """
        wanted = gain_of(self.passed(self.mergeprobe.plans[0]))
        return tuple(self._until(order, wanted) for order in self.random_orders())

    def _until(self, order: Sequence[Recipe], wanted: float) -> int:
        low, high = 0, len(order)  # the score never falls with one verification more, so halving finds the first
        while low < high:
            middle = (low + high) // 2
            enough = gain_of(best_partition(self.passed(order[:middle]))) >= wanted - 1e-9
            low, high = (low, middle) if enough else (middle + 1, high)
        return low


def _group(verdict: Verdict, settings: Settings) -> Group:
    kept = {one.revision: one.gate for one in verdict.members if one.gate is not None}
    return scored(verdict.recipe, kept, settings)


def scored(recipe: Recipe, kept: Mapping[str, float], settings: Settings) -> Group:
    """Return a group with the gain that keeping so much gives."""
    gain = group_gain(kept, dict.fromkeys(kept, 1.0), settings.lambda_cost)
    return Group(frozenset(recipe.members), recipe, gain, kept, {}, "recorded")


def num_modules(bank: RecordedBank, plan: Plan) -> int:
    """Return how many engine modules a plan needs."""
    return len(bank.adapters) - len(names(plan)) + len(plan)
