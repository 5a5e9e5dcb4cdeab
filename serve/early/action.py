"""The action that an adapter still in training would get: the policy of the planner over groups that it could join."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations

from probe.forecasting.comparison import ComparedPair, Comparison
from probe.predictors.predictor import Predictor
from router import reasons
from router.bank_state import BankState, Settings
from router.ledger import Members, read_ledger
from router.partition import EXACT_LIMIT, Group
from router.policy import Policy
from router.prospects import Depth, Prospects
from router.recipes import action_of
from router.records import Action, Adapter
from router.screening import screen
from serve.known import Known, KnownForecasts
from serve.signals.evidence import AdapterMeasured, PairMeasured

Mutual = Callable[[str, str], ComparedPair | PairMeasured | None]
"""Two known adapters -> their pair; None where it is not measured."""


@dataclass(frozen=True, slots=True)
class EarlyAction:
    """What the policy would do with an adapter if it were finished as it is forecast to be.

    Attributes
    ----------
    group
        What it would share a module with, itself included, and how; None is the action route.
    is_bounded
        Whether every bound passes the target; else it is only likely enough to, and a measurement has to show it.
    reason
        One sentence.
    """

    action: Action
    group: Group | None
    is_bounded: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What a bank's people and plans have settled already.

    Attributes
    ----------
    groups
        That share a module now, and that the adapter could join.
    vetoed
        Groups that a person keeps out.
    """

    groups: tuple[Members, ...] = ()
    vetoed: frozenset[Members] = frozenset()


def early_action(
    candidate: Adapter,
    comparison: Comparison,
    predictor: Predictor,
    settings: Settings,
    mutual: Mutual,
    standing: Standing = Standing(),
) -> EarlyAction:
    """Return the action that an adapter would get: with one other, with the best few of them, or in a standing group.

    Parameters
    ----------
    candidate
        The adapter that was compared.
    mutual
        Asked only of adapters that may meet in one group.
    """
    if candidate.protected or candidate.domain in settings.protected_domains:
        return EarlyAction(Action.ROUTE, None, True, reasons.protected(candidate))
    search = _Search(candidate, comparison, predictor, settings, mutual, standing)
    return search.action()


@dataclass(slots=True)
class _Search:
    candidate: Adapter
    comparison: Comparison
    predictor: Predictor
    settings: Settings
    mutual: Mutual
    standing: Standing
    known: Known = field(init=False)

    def __post_init__(self) -> None:
        adapters = {
            revision: AdapterMeasured(one.evidence, one.modules, one.num_layers, None)
            for revision, one in self.comparison.adapters.items()
        }
        self.known = Known(adapters, dict(_ordered(*pair) for pair in self.comparison.pairs.items()))

    def action(self) -> EarlyAction:
        own, others = self.candidate.revision, self.comparison.others
        is_small = len(others) < EXACT_LIMIT
        pairs = self._look(
            [frozenset((own, other)) for other in others], Depth.EVERY_RECIPE if is_small else Depth.REPAIRS
        )
        larger = list(self._larger(pairs))
        self._add_mutual(larger)
        sets = self._look(larger, Depth.REPAIRS)
        seen = [*pairs.seen.values(), *sets.seen.values()]
        feasible = [prospect.feasible for prospect in seen if prospect.feasible]
        hopeful = [prospect.hopeful for prospect in seen if prospect.hopeful and prospect.hopeful.gain > 0]
        if found := feasible or hopeful:
            group = max(found, key=lambda one: (one.gain, one.recipe.members))
            reason = reasons.on_trial(own, group, self._names)
            return EarlyAction(action_of(group.recipe), group, bool(feasible), reason)
        return EarlyAction(Action.ROUTE, None, True, self._why_separate(pairs))

    @property
    def _names(self) -> Mapping[str, str]:
        return {revision: one.name for revision, one in self.comparison.adapters.items()}

    def _look(self, sets: Iterable[Members], depth: Depth) -> Prospects:
        ranks = {revision: one.rank for revision, one in self.comparison.adapters.items()}
        bank = BankState((), vetoed=self.standing.vetoed)
        ledger = read_ledger(bank, screen(bank, self.settings), self.settings)
        policy = Policy(self.settings, KnownForecasts(self.predictor, self.known), ranks)
        prospects = Prospects(policy, ledger, dict.fromkeys(ranks, 1.0), self.settings)
        prospects.look(sets, depth)
        return prospects

    def _larger(self, pairs: Prospects) -> Iterator[Members]:
        """Yield the adapter with its best partners, two and more, and with the groups that it could join."""
        own, room = self.candidate.revision, self.settings.max_group_size - 1
        gains = {other: pairs.expected_gain(frozenset((own, other))) for other in self.comparison.others}
        best = sorted((other for other in gains if gains[other] > 0), key=lambda other: (-gains[other], other))[:room]
        yield from (frozenset((own, *best[:size])) for size in range(2, len(best) + 1))
        for group in self.standing.groups:
            if len(group) <= room and group <= gains.keys():
                yield group | {own}

    def _add_mutual(self, sets: Iterable[Members]) -> None:
        """Learn what is to be known of pairs of known adapters in the same set."""
        wanted = sorted({pair for members in sets for pair in combinations(sorted(members), 2)})
        pairs = dict(self.known.pairs)
        for pair in wanted:
            if pair not in pairs and (found := self.mutual(*pair)) is not None:
                pairs |= dict([_ordered(pair, found)])
        self.known = Known(self.known.adapters, pairs)

    def _why_separate(self, pairs: Prospects) -> str:
        own, names = self.candidate.revision, self._names
        closest = pairs.closest_to([own]).get(own)
        option = pairs.seen[closest].closest if closest else None
        if option is None:
            return reasons.unknown(self.candidate.name)
        forecast = option.forecast
        if not option.is_hopeful(self.settings.target_retention):
            return reasons.predicted_to_fail(own, forecast, names)
        members = frozenset(option.recipe.members)
        group = Group(members, option.recipe, 0.0, forecast.retention, forecast.lower_bound)
        return reasons.outscored(own, group, names)


def _ordered(pair: tuple[str, str], found: ComparedPair | PairMeasured) -> tuple[tuple[str, str], PairMeasured]:
    """Return a pair as `Known` keeps it: revisions ascending."""
    first, second = pair
    measured = PairMeasured(found.features, found.damage)
    return ((first, second), measured) if first < second else ((second, first), measured.reversed)
