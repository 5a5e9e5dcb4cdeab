"""What plans are worth on report rows: mean and worst retention, with paired bootstrap intervals over rows.

Every adapter's report rows are resampled once, and all plans are told by the same resamples: differences are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from probe.bank.report.statistics import NUM_RESAMPLES, Estimate, Vector, estimate, row_draws
from router.records import BASE, Part, Recipe
from serve.proof.contest import Outcome, Plan, num_modules
from serve.proof.recorded_bank import RecordedBank, merged_module, separate_name

ROWS = "report rows"


@dataclass(frozen=True)
class Worth:
    """The report rows of one bank; every vector is (1 + resamples,), the value itself first."""

    bank: RecordedBank
    _known: dict[Recipe, dict[str, Vector]] = field(default_factory=dict, init=False)

    def macro(self, outcome: Outcome) -> Vector:
        """Return the mean Ret of all adapters, those of separate ones being 1; the mean over equally likely plans."""
        return self._mean(outcome, lambda kept: kept.mean(axis=0))

    def worst(self, outcome: Outcome) -> Vector:
        """Return the least Ret of any adapter; the mean over equally likely plans."""
        return self._mean(outcome, lambda kept: kept.min(axis=0))

    def area(self, outcomes: Sequence[Outcome], ends: Sequence[Outcome]) -> Vector:
        """Return the area under a retention-cost curve: macro Ret over modules an adapter, over the curve's width.

        Parameters
        ----------
        outcomes
            Of one method, at different costs.
        ends
            The cheapest and the dearest plan that anybody could choose: all curves begin and end there.
        """
        points = sorted((self.cost(one), place) for place, one in enumerate((*outcomes, *ends)))
        every = (*outcomes, *ends)
        x = np.array([cost for cost, _ in points])
        y = np.stack([self.macro(every[place]) for _, place in points])
        return np.asarray(np.trapezoid(y, x, axis=0) / (x[-1] - x[0]))

    def cost(self, outcome: Outcome) -> float:
        """Return engine modules an adapter, 0..1; the mean over equally likely plans."""
        return float(np.mean([num_modules(self.bank, plan) for plan in outcome.plans])) / len(self.bank.adapters)

    def estimate(self, values: Vector) -> Estimate:
        """Return a vector as a number with its interval."""
        num_rows = sum(weights.shape[1] for weights in self._weights.values())
        return estimate(float(values[0]), values[1:], num_rows, ROWS)

    def _mean(self, outcome: Outcome, summary: Callable[[Vector], Vector]) -> Vector:
        summed = np.zeros(1 + NUM_RESAMPLES)
        for plan in outcome.plans:
            summed += summary(self._kept(plan))
        return summed / len(outcome.plans)

    def _kept(self, plan: Plan) -> Vector:
        """Return (adapters, 1 + resamples), Ret of every adapter under a plan."""
        place = {adapter.name: number for number, adapter in enumerate(self.bank.adapters)}
        kept = np.ones((len(place), 1 + NUM_RESAMPLES))
        for recipe in plan:
            for name, values in self._of(recipe).items():
                kept[place[name]] = values
        return kept

    def _of(self, recipe: Recipe) -> dict[str, Vector]:
        """Return member -> its Ret in every resample."""
        if recipe not in self._known:
            module = merged_module(recipe).name
            self._known[recipe] = {name: self._retention(name, module) for name in recipe.members}
        return self._known[recipe]

    def _retention(self, name: str, module: str) -> Vector:
        modules = (BASE, separate_name(name), module)
        base, alone, inside = (np.array(self.bank.of(one, name, Part.REPORT).scores) for one in modules)
        weights = self._weights[name]
        gain = weights @ (alone - base)
        return np.divide(weights @ (inside - base), gain, out=np.full(len(gain), np.nan), where=gain > 0)

    @cached_property
    def _weights(self) -> dict[str, Vector]:
        """Return adapter -> (1 + resamples, rows): once each row, then as often as it was drawn."""
        names = [adapter.name for adapter in self.bank.adapters]
        counts = {name: len(self.bank.of(BASE, name, Part.REPORT).scores) for name in names}
        return {name: np.concatenate([np.ones((1, n)), row_draws(name, n)]) for name, n in counts.items()}
