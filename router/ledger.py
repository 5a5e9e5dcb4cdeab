"""What the verdicts say: groups that were measured to pass, recipes that are used up, groups that are out."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from probe.plan_score import group_gain
from router.bank_state import MAX_RECIPES, BankState, Settings
from router.partition import Group, Partition
from router.records import MemberResult, Placement, Recipe, RoutingTable, Verdict
from router.screening import Screened

Members = frozenset[str]
"""Revisions of a group."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The latest verdict on every recipe, read for one plan.

    Attributes
    ----------
    passed
        Groups whose measurement vouches for them under today's revisions and settings.
    passed_sets
        Their members.
    tried
        Group -> keys of its recipes that have a verdict, whatever it was.
    num_measured
        Group -> recipes that were measured on its gate rows; those that could not even be built do not count.
    failed
        Group -> its failed verdicts.
    out
        Groups that are neither served nor tried, and with each every group that holds it: those that a person keeps
        out, and those that failed as often as their gate rows may be looked at. What a pair was measured to lose, a
        larger group would not keep (arXiv 2606.19549, Section 5.6). By their first member.
    gate_width
        How far the lower bound of a gate lies below what it measured, the median of all; None: nothing was measured.
    """

    passed: tuple[Group, ...]
    passed_sets: frozenset[Members]
    tried: Mapping[Members, frozenset[str]]
    num_measured: Mapping[Members, int]
    failed: Mapping[Members, tuple[Verdict, ...]]
    out: Mapping[str, tuple[Members, ...]]
    gate_width: float | None

    def is_out(self, members: Members) -> bool:
        """Say whether a group may be neither served nor tried."""
        return any(group <= members for member in members for group in self.out.get(member, ()))

    def running(self, table: RoutingTable) -> Partition:
        """Return the passed groups that a routing table serves."""
        modules = {route.module for route in table.routes if route.placement is Placement.MERGED}
        return tuple(group for group in self.passed if group.module in modules)

    def closest_failures(self) -> dict[str, Verdict]:
        """Return revision -> the failed verdict on a group with it that came closest to passing."""
        found: dict[str, Verdict] = {}
        for verdict in (verdict for failed in self.failed.values() for verdict in failed):
            for member in verdict.recipe.members:
                if member not in found or worst_measured(verdict) > worst_measured(found[member]):
                    found[member] = verdict
        return found

    def untried(self, members: Members, recipes: Iterable[Recipe]) -> tuple[Recipe, ...]:
        """Return the recipes still to try, in order: never more than the group's gate rows may yet be looked at."""
        num_left = max(0, MAX_RECIPES - self.num_measured.get(members, 0))
        tried = self.tried.get(members)
        fresh = recipes if tried is None else (recipe for recipe in recipes if recipe.key not in tried)
        return tuple(islice(fresh, num_left))


def lower_bound_of(result: MemberResult) -> float:
    """Return the lower bound on gate rows; -inf where the rows do not bound it."""
    return -math.inf if result.gate_lower_bound is None else result.gate_lower_bound


def worst_measured(verdict: Verdict) -> float:
    """Return the smallest retention that was measured on gate rows; -inf where the recipe could not be measured."""
    return min((result.gate for result in verdict.members if result.gate is not None), default=-math.inf)


def read_ledger(bank: BankState, screened: Screened, settings: Settings) -> Ledger:
    """Read a bank's verdicts for the adapters that may be merged."""
    latest = list({verdict.recipe.key: verdict for verdict in bank.verdicts}.items())
    tried: defaultdict[Members, set[str]] = defaultdict(set)
    failed: defaultdict[Members, list[Verdict]] = defaultdict(list)
    for key, verdict in latest:
        members = frozenset(verdict.recipe.members)
        tried[members].add(key)
        if not verdict.passed:
            failed[members].append(verdict)
    vouching = (v for _, v in latest if _vouches(v, screened, settings) and not bank.is_vetoed(v.recipe.members))
    passed = tuple(_group(verdict, screened, settings) for verdict in vouching)
    passed_sets = frozenset(group.members for group in passed)
    num_measured = Counter(frozenset(verdict.recipe.members) for _, verdict in latest if verdict.members)
    exhausted = {members for members, looks in num_measured.items() if looks >= MAX_RECIPES} - passed_sets
    return Ledger(
        passed=passed,
        passed_sets=passed_sets,
        tried={members: frozenset(keys) for members, keys in tried.items()},
        num_measured=num_measured,
        failed={members: tuple(verdicts) for members, verdicts in failed.items()},
        out=_by_first(bank.vetoed | exhausted),
        gate_width=_gate_width(verdict for _, verdict in latest),
    )


def _gate_width(verdicts: Iterable[Verdict]) -> float | None:
    results = (result for verdict in verdicts for result in verdict.members)
    bounded = [
        result.gate - result.gate_lower_bound
        for result in results
        if result.gate is not None and result.gate_lower_bound is not None
    ]
    return statistics.median(bounded) if bounded else None


def _by_first(groups: Iterable[Members]) -> dict[str, tuple[Members, ...]]:
    led_by: defaultdict[str, list[Members]] = defaultdict(list)
    for group in groups:
        led_by[min(group)].append(group)
    return {first: tuple(of_first) for first, of_first in led_by.items()}


def _vouches(verdict: Verdict, screened: Screened, settings: Settings) -> bool:
    members, results = set(verdict.recipe.members), _results(verdict.members)
    return (
        verdict.passed
        and 2 <= len(members) <= settings.max_group_size
        and members <= screened.mergeable.keys()
        and members == results.keys()
        and verdict.recipe.rank <= max(settings.output_ranks)
        and all(_passes_gate(results[member], settings.target_retention) for member in members)
    )


def _passes_gate(result: MemberResult, target: float) -> bool:
    bound = result.gate_lower_bound
    return result.gate is not None and bound is not None and bound >= target


def _group(verdict: Verdict, screened: Screened, settings: Settings) -> Group:
    retention = {result.revision: result.gate for result in verdict.members if result.gate is not None}
    bounds = {result.revision: lower_bound_of(result) for result in verdict.members}
    gain = group_gain(retention, screened.weights, settings.lambda_cost)
    return Group(frozenset(verdict.recipe.members), verdict.recipe, gain, retention, bounds, verdict.module)


def _results(members: Sequence[MemberResult]) -> dict[str, MemberResult]:
    return {result.revision: result for result in members}
