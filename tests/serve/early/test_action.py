"""The action that an adapter in training would get, by the planner's own policy over planted forecasts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import combinations

import numpy as np
import pytest

from probe.forecasting.comparison import ComparedAdapter, ComparedPair, Comparison
from probe.forecasting.conflict import Conflict
from probe.predictors.forecast import AdapterEvidence, Evidence, Forecast, Merge
from probe.vectors import Features, PairFeatures
from router.bank_state import Settings
from router.records import Action, Adapter
from serve.early.action import EarlyAction, Standing, early_action
from tests import tiny

NOTHING = Features(np.empty(0), {})
MINE = "mine"
Kept = Mapping[frozenset[str], float]


class Planted:
    """Forecasts that every member of a plain merge keeps what is planted for the set, and at least `margin` less."""

    def __init__(self, kept: Kept, margin: float = 0.02, pruned: float | None = None) -> None:
        self.kept, self.margin, self.pruned = kept, margin, pruned

    def forecast(self, merges: list[Merge], evidence: Evidence) -> tuple[Forecast, ...]:
        return tuple(map(self._forecast, merges))

    def _forecast(self, merge: Merge) -> Forecast:
        value = self.kept.get(frozenset(merge.members), 0.3)
        if merge.recipe.action == "prune" and self.pruned is not None:
            value = self.pruned
        if merge.recipe.action == "reweight":
            value -= 0.1
        kept = (value,) * len(merge.members)
        bounds = tuple(one - self.margin for one in kept)
        return Forecast(merge.members, kept, bounds, value, value, value - self.margin, 0.9, "all", 99)


def pair(damage: tuple[float, float] | None = None) -> ComparedPair:
    own = np.array(damage) if damage else np.empty(0)
    return ComparedPair(PairFeatures(NOTHING, NOTHING, NOTHING), (own, own), Conflict((), False, ""))


def comparison(*others: str, damage: tuple[float, float] | None = None) -> Comparison:
    modules = tuple(name for name in tiny.SHAPES if name.endswith("q_proj"))
    adapters = {
        name: ComparedAdapter(name, AdapterEvidence(np.empty(0), 1.0), modules, 8, tiny.NUM_LAYERS)
        for name in (MINE, *others)
    }
    return Comparison(MINE, adapters, {(MINE, other): pair(damage) for other in others}, {})


def action(
    kept: Kept,
    *others: str,
    mutual: Callable[[str, str], ComparedPair | None] = lambda first, second: pair(),
    damage: tuple[float, float] | None = None,
    **options: object,
) -> EarlyAction:
    given = {name: options.pop(name) for name in ("margin", "pruned") if name in options}
    standing = options.pop("standing", Standing())
    domain = options.pop("domain", None)
    candidate = Adapter(MINE, MINE, "", 8, 0, domain=domain)
    return early_action(
        candidate, comparison(*others, damage=damage), Planted(kept, **given), Settings(**options), mutual, standing
    )


def sets(*groups: str, value: float = 0.95) -> dict[frozenset[str], float]:
    return {frozenset((MINE, *group)): value for group in groups}


def test_it_joins_the_one_beside_which_both_keep_enough() -> None:
    found = action(sets("a") | sets("b", value=0.7), "a", "b")
    assert found.group is not None
    assert (found.action, found.group.members, found.is_bounded) == (Action.MERGE, {MINE, "a"}, True)
    assert found.reason == "mine: separate until its merge with a is measured, predicted to keep 0.95 (at least 0.93)"


def test_where_only_the_point_forecast_passes_a_measurement_is_needed() -> None:
    found = action(sets("a"), "a", "b", margin=0.3)
    assert found.group is not None
    assert (found.action, found.is_bounded) == (Action.MERGE, False)
    found = action(sets("a"), "a", "b", margin=math.inf)
    assert not found.is_bounded
    assert "no bound yet" in found.reason


def test_where_nothing_passes_it_stays_separate_and_the_closest_is_named() -> None:
    found = action(sets("a", value=0.5) | sets("b", value=0.4), "a", "b")
    assert (found.action, found.group) == (Action.ROUTE, None)
    assert found.reason == "mine: separate, next to it a is predicted to keep 0.50 (at least 0.48)"


def test_a_larger_group_saves_more_modules() -> None:
    kept = sets("a", "b", "ab") | sets("c", value=0.5)
    found = action(kept, "a", "b", "c")
    assert found.group is not None
    assert found.group.members == {MINE, "a", "b"}
    asked: list[tuple[str, str]] = []
    action(kept, "a", "b", "c", mutual=lambda first, second: asked.append((first, second)))
    assert asked == [("a", "b")]


def test_a_group_of_which_a_pair_is_unknown_is_not_forecast() -> None:
    found = action(sets("a", "b", "ab"), "a", "b", mutual=lambda first, second: None)
    assert found.group is not None
    assert len(found.group.members) == 2


def test_it_may_join_a_group_that_is_served_though_its_pairs_are_poor() -> None:
    kept = sets("ab") | sets("a", "b", value=0.7)
    standing = Standing((frozenset("ab"),))
    found = action(kept, "a", "b", standing=standing)
    assert found.group is not None
    assert found.group.members == {MINE, "a", "b"}
    assert action(kept, "a", "b").group is None
    assert action(kept, "a", "b", standing=standing, max_group_size=2).group is None


def test_what_a_person_keeps_out_stays_out() -> None:
    kept = sets("a", "ab") | sets("b", value=0.9)
    standing = Standing(vetoed=frozenset({frozenset((MINE, "a"))}))
    found = action(kept, "a", "b", standing=standing)
    assert found.group is not None
    assert found.group.members == {MINE, "b"}


def test_pruning_is_chosen_where_it_helps() -> None:
    found = action(sets("a", value=0.7), "a", damage=(0.9, 0.1), pruned=0.95)
    assert found.group is not None
    assert (found.action, len(found.group.recipe.pruned)) == (Action.PRUNE, 1)


@pytest.mark.parametrize("domain", ["safety"])
def test_a_protected_domain_is_never_merged(domain: str) -> None:
    found = action(sets("a"), "a", domain=domain)
    assert (found.action, found.group) == (Action.ROUTE, None)
    assert "protected" in found.reason


def test_a_merge_that_does_not_pay_is_named() -> None:
    found = action(sets("a", value=0.9), "a", lambda_cost=0.1)
    assert found.action is Action.ROUTE
    assert "the plan scores higher without it" in found.reason


def test_more_partners_than_are_searched_through_are_searched_all_the_same() -> None:
    others = [f"other-{number:02}" for number in range(20)]
    kept = {frozenset((MINE, one)): 0.9 for one in others[:3]} | {
        frozenset((MINE, *some)): 0.95 for some in combinations(others[:3], 2)
    }
    found = action(kept, *others)
    assert found.group is not None
    assert len(found.group.members) == 3
