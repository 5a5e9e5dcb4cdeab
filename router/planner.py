"""Decide, for a whole bank, which adapters share a merged module, and which groups to measure next.

Pure: the same bank gives the same plan. Nothing here predicts a retention: weights only order the trials, and an
adapter is merged only in a group whose measured retention passed the gate (mergeprobe.md, "Policy").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from probe.retention import SIGNIFICANT_GAIN
from router.bank_state import BankState, Candidate, PairAffinity, Settings
from router.partition import Group, Partition, best_partition, gain_of
from router.records import Action, Adapter, Decision, MemberResult, Placement, Trial, Verdict
from router.trials import TrialSearch

__all__ = ["BankState", "Candidate", "PairAffinity", "Planner", "Settings", "WeightsOnlyPlanner"]


class Planner(Protocol):
    """Anything that plans a bank; which signals it goes by is its own affair."""

    def plan(self, bank: BankState) -> tuple[tuple[Decision, ...], tuple[Trial, ...]]:
        """Return a decision for every adapter that is not leaving, sorted by name, and the next trials."""
        ...


@dataclass(frozen=True, slots=True)
class WeightsOnlyPlanner:
    """Serves what was measured to pass; orders the measurements by signals of the weights alone."""

    settings: Settings = field(default_factory=Settings)

    def plan(self, bank: BankState) -> tuple[tuple[Decision, ...], tuple[Trial, ...]]:
        """Choose the best verified partition, propose trials that could improve it, and give every reason."""
        staying = [candidate for candidate in bank.candidates if not candidate.adapter.leaving]
        excluded = self._excluded(staying)
        mergeable = {c.adapter.revision: c.adapter for c in staying if c.adapter.name not in excluded}
        latest = {verdict.recipe.key: verdict for verdict in bank.verdicts}
        passed = self._passed_groups(list(latest.values()), mergeable)
        chosen = self._choose(passed, bank)
        members = frozenset(group.members for group in passed)
        measured = Counter(frozenset(verdict.recipe.members) for verdict in latest.values() if verdict.members)
        trials = TrialSearch(
            mergeable, members, chosen, frozenset(latest), measured, bank.affinity, self.settings
        ).propose()
        merged = self._merge_decisions(chosen, mergeable)
        separate = self._separate_reasons(mergeable, passed, trials)
        decisions = [
            merged.get(adapter.name) or excluded.get(adapter.name) or _route(adapter, separate[adapter.name])
            for adapter in (candidate.adapter for candidate in staying)
        ]
        return tuple(sorted(decisions, key=lambda decision: decision.adapter)), trials

    def _excluded(self, candidates: Sequence[Candidate]) -> dict[str, Decision]:
        """Decide the adapters that may not be merged, by name."""
        num_names = Counter(candidate.adapter.revision for candidate in candidates)
        decisions = {}
        for candidate in candidates:
            adapter = candidate.adapter
            if adapter.protected or adapter.domain in self.settings.protected_domains:
                decisions[adapter.name] = _route(adapter, _protection(adapter), Placement.PROTECTED)
            elif reason := _obstacle(candidate, num_names[adapter.revision]):
                decisions[adapter.name] = _route(adapter, reason)
        return decisions

    def _passed_groups(self, verdicts: Sequence[Verdict], mergeable: Mapping[str, Adapter]) -> tuple[Group, ...]:
        """Return the groups whose verdict vouches for them under today's revisions and settings."""
        return tuple(
            Group(frozenset(verdict.recipe.members), self._gain(verdict), verdict)
            for verdict in verdicts
            if self._still_holds(verdict, mergeable)
        )

    def _still_holds(self, verdict: Verdict, mergeable: Mapping[str, Adapter]) -> bool:
        members, results = set(verdict.recipe.members), _results(verdict)
        return (
            verdict.passed
            and 2 <= len(members) <= self.settings.max_group_size
            and members <= mergeable.keys()
            and members == results.keys()
            and verdict.recipe.rank <= max(self.settings.output_ranks)
            and all(self._passes_gate(results[member]) for member in members)
        )

    def _passes_gate(self, result: MemberResult) -> bool:
        bound = result.gate_lower_bound
        return result.gate is not None and bound is not None and bound >= self.settings.target_retention

    def _gain(self, verdict: Verdict) -> float:
        """Score that the group adds over keeping its members separate, where each has retention 1."""
        kept = sum(min(1.0, result.gate) for result in verdict.members if result.gate is not None)
        num_members = len(verdict.recipe.members)
        return self.settings.lambda_cost * (num_members - 1) - (num_members - kept)

    def _choose(self, passed: Sequence[Group], bank: BankState) -> Partition:
        """Keep the partition that is being served unless it is impossible now or clearly beaten."""
        best = best_partition(passed)
        current_modules = {r.module for r in bank.current.routes if r.placement is Placement.MERGED}
        current = tuple(group for group in passed if group.verdict.module in current_modules)
        is_possible = {group.verdict.module for group in current} == current_modules
        if is_possible and gain_of(best) <= gain_of(current) + self.settings.hysteresis:
            return current
        return best

    def _merge_decisions(self, chosen: Partition, mergeable: Mapping[str, Adapter]) -> dict[str, Decision]:
        return {
            mergeable[member].name: Decision(
                adapter=mergeable[member].name,
                revision=member,
                placement=Placement.MERGED,
                action=Action.MERGE,
                reason=self._merge_reason(member, group, mergeable),
                recipe=group.recipe,
            )
            for group in chosen
            for member in group.members
        }

    def _merge_reason(self, member: str, group: Group, mergeable: Mapping[str, Adapter]) -> str:
        result = _results(group.verdict)[member]
        others = _listed(mergeable[other].name for other in group.members - {member})
        return (
            f"Measured to keep {result.gate:.2f} of its gain when merged with {others} "
            f"(lower bound {result.gate_lower_bound:.2f}, target {self.settings.target_retention:.2f})."
        )

    def _separate_reasons(
        self, mergeable: Mapping[str, Adapter], passed: Sequence[Group], trials: Sequence[Trial]
    ) -> dict[str, str]:
        """Say why each mergeable adapter would be in no group, by name."""
        with_passed = {mergeable[member].name for group in passed for member in group.members}
        on_trial = {name: trial for trial in reversed(trials) for name in trial.adapters}
        return {
            adapter.name: _separate_reason(adapter.name, on_trial.get(adapter.name), adapter.name in with_passed)
            for adapter in mergeable.values()
        }


def _protection(adapter: Adapter) -> str:
    cause = "It is flagged as protected" if adapter.protected else f"Its domain, {adapter.domain}, is protected"
    return f"{cause}, so it is never merged."


def _obstacle(candidate: Candidate, num_names: int) -> str | None:
    """Say why an unprotected adapter may not be merged; None if it may."""
    adapter, gain = candidate.adapter, candidate.gain
    if adapter.evaluation is None:
        return "It has no evaluation rows, so nothing could show that a merge keeps its skill."
    if num_names > 1:
        return "Another name has the same content, and both share one module already."
    if gain is None:
        return "It is waiting for its single-task score."
    if not gain.is_significant:
        return (
            f"It gains {gain.value:.3f} over the base with a standard error of {gain.standard_error:.3f}: under "
            f"{SIGNIFICANT_GAIN:g} standard errors there is nothing to measure retention against."
        )
    return None


def _separate_reason(name: str, trial: Trial | None, has_passed: bool) -> str:
    if trial is not None:
        others = _listed(other for other in trial.adapters if other != name)
        return f"It stays separate while a merge with {others} is being measured."
    if has_passed:
        return "A merge with it passed, but the plan scores higher without that merge."
    return "No merge with it has been measured to pass so far."


def _route(adapter: Adapter, reason: str, placement: Placement = Placement.SEPARATE) -> Decision:
    return Decision(adapter.name, adapter.revision, placement, Action.ROUTE, reason)


def _results(verdict: Verdict) -> dict[str, MemberResult]:
    return {result.revision: result for result in verdict.members}


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ordered[0] if len(ordered) == 1 else f"{', '.join(ordered[:-1])} and {ordered[-1]}"
