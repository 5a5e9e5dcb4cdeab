"""Decide, for a whole bank, which adapters share a merged module, and which groups to measure next.

Pure: the same bank gives the same plan. Nothing here predicts a retention: weights only order the trials, and an
adapter is merged only in a group whose measured retention passed the gate (mergeprobe.md, "Policy"). With forecasts,
`router/forecast_planner.py` plans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from router import reasons
from router.bank_state import BankState, Candidate, PairAffinity, Settings
from router.forecasts import GroupForecast, bounded
from router.ledger import Ledger, read_ledger
from router.partition import Group, Partition, best_partition, settled
from router.recipes import action_of
from router.records import Decision, Placement, Trial
from router.screening import Screened, route, screen
from router.trials import TrialSearch, holders

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
        screened = screen(bank, self.settings)
        ledger = read_ledger(bank, screened, self.settings)
        chosen = served_partition(ledger, bank, self.settings)
        trials = TrialSearch(screened.mergeable, ledger, holders(chosen), bank.affinity, self.settings).propose()
        merged = merge_decisions(chosen, screened, self.settings)
        return decided(screened, merged, _separate_reasons(screened, ledger, trials)), trials


def served_partition(ledger: Ledger, bank: BankState, settings: Settings) -> Partition:
    """Return the measured groups to serve: the best ones, unless the running ones are as good as that."""
    return settled(best_partition(ledger.passed), ledger.running(bank.current), settings.hysteresis)


def merge_decisions(
    chosen: Partition,
    screened: Screened,
    settings: Settings,
    forecasts: Mapping[Group, GroupForecast] | None = None,
) -> dict[str, Decision]:
    """Return revision -> decision for the members of measured groups, with what is forecast of those groups."""
    decisions = {}
    for group in chosen:
        forecast = (forecasts or {}).get(group)
        for member in group.recipe.members:
            decisions[member] = Decision(
                adapter=screened.mergeable[member].name,
                revision=member,
                placement=Placement.MERGED,
                action=action_of(group.recipe),
                reason=reasons.merged(member, group, forecast, settings.target_retention, screened.names),
                recipe=group.recipe,
                predicted_retention=forecast.retention[member] if forecast else None,
                lower_bound=bounded(forecast.lower_bound[member]) if forecast else None,
            )
    return decisions


def decided(screened: Screened, merged: Mapping[str, Decision], separate: Mapping[str, str]) -> tuple[Decision, ...]:
    """Return the decision on every staying adapter, sorted by name.

    Parameters
    ----------
    merged, separate
        Revision -> decision, and revision -> reason, of those that may be merged.
    """
    return tuple(
        screened.excluded.get(adapter.name)
        or merged.get(adapter.revision)
        or route(adapter, separate[adapter.revision])
        for adapter in screened.staying
    )


def _separate_reasons(screened: Screened, ledger: Ledger, trials: Sequence[Trial]) -> dict[str, str]:
    """Say why each mergeable adapter would be in no group, by revision."""
    on_trial = {name: trial for trial in reversed(trials) for name in trial.adapters}
    passed = {member: group for group in reversed(ledger.passed) for member in group.members}
    found = {}
    for revision, adapter in screened.mergeable.items():
        if trial := on_trial.get(adapter.name):
            others = (other for other in trial.adapters if other != adapter.name)
            found[revision] = reasons.on_unpredicted_trial(adapter.name, others)
        elif group := passed.get(revision):
            found[revision] = reasons.outscored(revision, group, screened.names)
        else:
            found[revision] = reasons.never_passed(adapter.name)
    return found
