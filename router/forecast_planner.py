"""The planner that goes by forecasts: what is measured is served, what is forecast to be better is measured next.

The forecast proposes, a measurement decides (mergeprobe.md, "Policy").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from probe.retention import retention_in_words
from router import reasons
from router.bank_state import BankState, Settings
from router.forecasts import Forecasts, GroupForecast, bounded
from router.group_search import GroupSearch
from router.ledger import read_ledger, worst_measured
from router.partition import Group, Partition, best_partition, gain_of, settled
from router.planner import decided, merge_decisions, served_partition
from router.policy import Option
from router.prospects import Depth, Prospects
from router.records import Decision, Trial, Verdict
from router.remembered import RememberedPolicy
from router.screening import Screened, screen
from router.trials import aim, holders, num_saved, overlapping


@dataclass(frozen=True, slots=True)
class Outlook:
    """Three partitions of one bank.

    Attributes
    ----------
    served
        Of measured groups.
    target
        The best one by measurements and bounds: what is served once its groups are measured to pass.
    hoped
        The best one in expectation, where groups count that are only likely to pass.
    """

    served: Partition
    target: Partition
    hoped: Partition


@dataclass(frozen=True, slots=True)
class ForecastPlanner:
    """Serves what was measured to pass; measures what is forecast to make the plan better.

    Parameters
    ----------
    forecasts
        What is known of merges that were not measured; asked for each recipe once, as long as its version stays.
    """

    settings: Settings
    forecasts: Forecasts
    _policy: RememberedPolicy = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_policy", RememberedPolicy(self.settings, self.forecasts))

    def plan(self, bank: BankState) -> tuple[tuple[Decision, ...], tuple[Trial, ...]]:
        """Serve the best measured partition, propose the trials that lead to a better one, and give every reason."""
        screened = screen(bank, self.settings)
        self._policy.update({revision: adapter.rank for revision, adapter in screened.mergeable.items()})
        ledger = read_ledger(bank, screened, self.settings)
        prospects = Prospects(self._policy, ledger, screened.weights, self.settings)
        outlook = self._outlook(bank, prospects, frozenset(screened.mergeable))
        trials = self._trials(outlook, prospects, screened)
        merged = merge_decisions(outlook.served, screened, self.settings, self._forecasts_of(outlook.served))
        return decided(screened, merged, _separate_reasons(outlook, prospects, screened)), trials

    def _outlook(self, bank: BankState, prospects: Prospects, mergeable: frozenset[str]) -> Outlook:
        search = GroupSearch(prospects, mergeable, self.forecasts, self.settings.max_group_size)
        search.look_around()
        margin = self.settings.hysteresis
        served = served_partition(prospects.ledger, bank, self.settings)
        target = settled(_best(search), served, margin)
        hopes = [one.hopeful for one in prospects.seen.values() if one.hopeful]
        held_by = holders(target)
        worth_it = [group for group in hopes if _improvement(group, held_by) > margin]
        hoped = settled(best_partition([*target, *worth_it]), target, margin)
        # What is chosen is worth a thorough look: with other weights or pruned parts it may keep even more.
        prospects.look((group.members for group in (*target, *hoped) if not group.module), Depth.EVERY_RECIPE)
        return Outlook(served, _refined(target, prospects), _refined(hoped, prospects))

    def _trials(self, outlook: Outlook, prospects: Prospects, screened: Screened) -> tuple[Trial, ...]:
        """Propose the unmeasured groups of the target, then those of the hoped partition that touch none of them."""
        proposed: list[Group] = []
        taken: set[str] = set()
        held_by = holders(outlook.served)
        for partition in (outlook.target, outlook.hoped):
            for group in sorted(partition, key=lambda one: (-_hope(one, held_by), one.recipe.members)):
                if group.module is None and taken.isdisjoint(group.members):
                    proposed.append(group)
                    taken |= group.members
        trials = (self._trial(group, held_by, prospects, screened) for group in proposed)
        return self._limited(trials)

    def _limited(self, trials: Iterable[Trial]) -> tuple[Trial, ...]:
        """Return the first `max_trials`, of which no more than `max_exploration` explore."""
        num_exploring = 0
        kept = []
        for trial in trials:
            num_exploring += trial.explores
            if not trial.explores or num_exploring <= self.settings.max_exploration:
                kept.append(trial)
            if len(kept) >= self.settings.max_trials:
                break
        return tuple(kept[: self.settings.max_trials])

    def _trial(self, group: Group, held_by: Mapping[str, Group], prospects: Prospects, screened: Screened) -> Trial:
        by_name = sorted(group.members, key=lambda member: screened.mergeable[member].name)
        worst = retention_in_words(min(group.retention.values()), min(group.lower_bound.values()))
        saved = num_saved(group.members, held_by)
        return Trial(
            adapters=tuple(screened.mergeable[member].name for member in by_name),
            recipes=prospects.recipes(group),
            reason=f"Merging them {aim(saved)}; each is predicted to keep {worst} or more.",
            predicted_retentions=tuple(group.retention[member] for member in by_name),
            lower_bounds=tuple(bounded(group.lower_bound[member]) for member in by_name),
            explores=prospects.seen[group.members].feasible is None,
        )

    def _forecasts_of(self, partition: Partition) -> dict[Group, GroupForecast]:
        """Return what is forecast of groups that were measured, where anything is."""
        answers = self._policy.forecasts_of([group.recipe for group in partition])
        return {group: forecast for group, forecast in zip(partition, answers, strict=True) if forecast is not None}


def _best(search: GroupSearch) -> Partition:
    """Return the best partition by measurements and bounds, after a second look at whom the first leaves out."""
    known = search.prospects.sure
    first = best_partition(known)
    search.look_at_rest(first)
    more = search.prospects.sure
    return first if len(more) == len(known) else best_partition(more, first)


def _refined(partition: Partition, prospects: Prospects) -> Partition:
    """Return the partition with the best recipe that is known of each unmeasured group by now."""
    return tuple(group if group.module else prospects.seen[group.members].best or group for group in partition)


def _improvement(group: Group, held_by: Mapping[str, Group]) -> float:
    """Return what a group adds to a plan, over the groups whose members it takes."""
    return group.gain - gain_of(overlapping(group.members, held_by))


def _hope(group: Group, held_by: Mapping[str, Group]) -> float:
    """Return what measuring a group may be expected to add to a plan: nothing is lost where it fails."""
    return group.expected * _improvement(group, held_by) / group.gain


def _separate_reasons(outlook: Outlook, prospects: Prospects, screened: Screened) -> dict[str, str]:
    """Say why each mergeable adapter would be in no group, by revision."""
    names, ledger = screened.names, prospects.ledger
    planned = {m: group for partition in (outlook.hoped, outlook.target) for group in partition for m in group.members}
    passed = {member: group for group in reversed(ledger.passed) for member in group.members}
    closest, failed = prospects.closest_options(), ledger.closest_failures()
    found = {}
    for revision, adapter in screened.mergeable.items():
        group, option, verdict = planned.get(revision), closest.get(revision), failed.get(revision)
        if group is not None and group.module is None:
            found[revision] = reasons.on_trial(revision, group, names)
        elif alternative := passed.get(revision):
            found[revision] = reasons.outscored(revision, alternative, names)
        elif verdict and (option is None or worst_measured(verdict) >= option.worst or _is_of(option, verdict)):
            found[revision] = reasons.measured_to_fail(revision, verdict, names)
        elif option is None:
            found[revision] = reasons.unknown(adapter.name)
        elif feasible := prospects.seen[frozenset(option.recipe.members)].feasible:
            found[revision] = reasons.outscored(revision, feasible, names)
        else:
            found[revision] = reasons.predicted_to_fail(revision, option.forecast, names)
    return found


def _is_of(option: Option, verdict: Verdict) -> bool:
    """Say whether a forecast is of the group that was measured: then the measurement is what counts."""
    return option.recipe.members == verdict.recipe.members
