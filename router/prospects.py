"""What a plan may hope of sets of adapters: the best recipe by forecasts, once the verdicts have had their say."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from probe.plan_score import expected_gain, group_gain, passing_chance
from router.bank_state import MAX_RECIPES, Settings
from router.ledger import Ledger, Members, lower_bound_of
from router.partition import Group
from router.policy import Option, Policy, best_action, closeness
from router.records import Recipe
from router.remembered import RememberedPolicy


class Depth(IntEnum):
    """How closely sets are looked at: each step costs more forecasts, and finds more that pass."""

    MERGES = 0
    """Plain merges by every operator."""
    REPAIRS = 1
    """Where none of them passes: the closest one with other weights, and pruned."""
    EVERY_RECIPE = 2
    """Every operator with every weight, and the closest one pruned: all of Algorithm 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Prospect:
    """What is known of one set without having measured it.

    Attributes
    ----------
    feasible
        Its best recipe whose bounds pass the target.
    hopeful
        Its best recipe whose bounds do not pass, but which is likely enough to be worth a measurement; its gain is what
        may be expected of it.
    closest
        The recipe that comes closest to passing.
    """

    feasible: Group | None = None
    hopeful: Group | None = None
    closest: Option | None = None

    @property
    def best(self) -> Group | None:
        """The group that a plan would have measured."""
        return self.feasible or self.hopeful


NOTHING = Prospect()


@dataclass(slots=True)
class Prospects:
    """Looks at sets for one plan.

    Attributes
    ----------
    weights
        Revision -> w of the score.
    """

    policy: Policy | RememberedPolicy
    ledger: Ledger
    weights: Mapping[str, float]
    settings: Settings
    seen: dict[Members, Prospect] = field(default_factory=dict)
    """Every set looked at so far."""
    _merged: dict[Members, tuple[Option, ...]] = field(default_factory=dict)
    _reworked: dict[Members, tuple[Option, ...]] = field(default_factory=dict)
    _depth: dict[Members, Depth] = field(default_factory=dict)
    _measured: dict[Members, float] = field(init=False)
    _shortfalls: dict[str, list[tuple[Members, float]]] = field(init=False)

    def __post_init__(self) -> None:
        ascending = sorted(self.ledger.passed, key=lambda group: group.gain)
        self._measured = {group.members: group.gain for group in ascending}
        self._shortfalls = self._measured_shortfalls()

    def look(self, sets: Iterable[Members], depth: Depth) -> None:
        """Look at sets to a depth, unless they were looked at as deeply before."""
        wanted = [m for m in dict.fromkeys(sets) if self._depth.get(m, -1) < depth and not self.ledger.is_out(m)]
        self._merged.update(self.policy.merged(m for m in wanted if m not in self._merged))
        if depth is not Depth.MERGES:
            is_thorough = depth is Depth.EVERY_RECIPE
            short = {m: self._merged[m] for m in wanted if is_thorough or not self._passes(m)}
            self._reworked.update(self.policy.reworked(short, by_every_operator=is_thorough))
        self._depth.update(dict.fromkeys(wanted, depth))
        self.seen.update({members: self._prospect(members) for members in wanted})

    @property
    def sure(self) -> list[Group]:
        """Groups that passed, and those that are predicted to."""
        return [*self.ledger.passed, *(one.feasible for one in self.seen.values() if one.feasible)]

    def expected_gain(self, members: Members) -> float:
        """Return what a set may be expected to add to a plan's score; 0 where it is not predicted to pass."""
        if (measured := self._measured.get(members)) is not None:
            return measured
        best = self.seen[members].best if members in self.seen else None
        return best.gain if best else 0.0

    def closest_to(self, revisions: Collection[str]) -> dict[str, Members]:
        """Return revision -> the pair with it, of those looked at, that comes closest to passing."""
        closest = self.closest_options()
        return {one: frozenset(closest[one].recipe.members) for one in revisions if one in closest}

    def closest_options(self) -> dict[str, Option]:
        """Return revision -> the recipe of a pair with it, of those looked at, that comes closest to passing."""
        found: dict[str, Option] = {}
        for members, prospect in self.seen.items():
            if prospect.closest is not None and len(members) == 2:
                for member in members:
                    if member not in found or closeness(prospect.closest) > closeness(found[member]):
                        found[member] = prospect.closest
        return found

    def recipes(self, group: Group) -> tuple[Recipe, ...]:
        """Return what to try on a group, its own recipe first, then the others that are predicted to pass, by score."""
        target = self.settings.target_retention
        enough = target + self._shortfall(group.members)
        others = [one for one in self._options(group.members) if one.is_hopeful(enough) and one.recipe != group.recipe]
        ordered = sorted(others, key=lambda one: (not one.is_feasible(target), -self._gain(one)))
        return self.ledger.untried(group.members, (group.recipe, *(option.recipe for option in ordered)))

    def _options(self, members: Members) -> tuple[Option, ...]:
        return self._merged[members] + self._reworked.get(members, ())

    def _passes(self, members: Members) -> bool:
        return any(option.is_feasible(self.settings.target_retention) for option in self._merged[members])

    def _prospect(self, members: Members) -> Prospect:
        options = self._options(members)
        if not options:
            return NOTHING
        closest = max(options, key=closeness)
        num_looks = self.ledger.num_measured.get(members, 0)
        if members in self.ledger.passed_sets or num_looks >= MAX_RECIPES:
            return Prospect(closest=closest)
        target = self.settings.target_retention
        untried = self._untried(members, options)
        feasible = best_action(untried, self.weights, self.settings)
        hope = max((one for one in untried if not one.is_feasible(target)), key=self._expected, default=None)
        expected = self._expected(hope) if hope else 0.0
        return Prospect(
            self._group(feasible, self._gain(feasible)) if feasible else None,
            self._group(hope, expected) if hope and expected > self.settings.hysteresis else None,
            closest,
        )

    def _untried(self, members: Members, options: Iterable[Option]) -> list[Option]:
        """Return the options that have no verdict, and that promise more than what was missed by parts of the set."""
        tried = self.ledger.tried.get(members, frozenset())
        shortfall = self._shortfall(members)
        enough = self.settings.target_retention + shortfall if shortfall else -math.inf
        return [one for one in options if one.is_hopeful(enough) and not (tried and one.recipe.key in tried)]

    def _shortfall(self, members: Members) -> float:
        """Return by how much a forecast of a set must beat the target: what was promised too much of a part of it."""
        if not self._shortfalls:
            return 0.0
        falls = (fall for one in members for group, fall in self._shortfalls.get(one, ()) if group <= members)
        return max((0.0, *falls))

    def _measured_shortfalls(self) -> dict[str, list[tuple[Members, float]]]:
        """Return, by its first member, every group that was measured to fail, and by how much it missed its forecast.

        That is point forecast less measured lower bound, of the member that missed most: what was overlooked in one
        recipe of a group will have been overlooked in the others, and in larger groups; and on the same rows the bound
        will lie as far below what is measured.
        """
        present = (failed for members, failed in self.ledger.failed.items() if members <= self.weights.keys())
        verdicts = [verdict for failed in present for verdict in failed if verdict.members]
        forecasts = self.policy.forecasts_of([verdict.recipe for verdict in verdicts])
        falls: dict[str, list[tuple[Members, float]]] = {}
        for verdict, forecast in zip(verdicts, forecasts, strict=True):
            if forecast is not None:
                members = verdict.recipe.members
                missed = (forecast.retention[one.revision] - lower_bound_of(one) for one in verdict.members)
                falls.setdefault(min(members), []).append((frozenset(members), max(missed)))
        return falls

    def _group(self, option: Option, gain: float) -> Group:
        recipe, forecast = option.recipe, option.forecast
        return Group(
            members=frozenset(recipe.members),
            recipe=recipe,
            gain=gain,
            retention=forecast.retention,
            lower_bound=forecast.lower_bound,
            expected=self._expected(option),
            note=forecast.note,
        )

    def _gain(self, option: Option) -> float:
        return group_gain(option.forecast.retention, self.weights, self.settings.lambda_cost)

    def _expected(self, option: Option) -> float:
        forecast, target = option.forecast, self.settings.target_retention
        # A gate asks for a lower bound, which lies below what is measured.
        enough = target + (self.ledger.gate_width or 0.0)
        chance = passing_chance(forecast.retention, forecast.lower_bound, forecast.safe_probability, enough)
        return expected_gain(forecast.retention, self.weights, self.settings.lambda_cost, target, chance)
