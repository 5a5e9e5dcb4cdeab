"""Which routes of an old table can be served again."""

from __future__ import annotations

from dataclasses import replace

from router.records import Action, Adapter, Decision, Module, Placement, Recipe, Route, RoutingTable
from router.rollback import decisions_back_to, left_out

PAIR = Recipe("ta", ("r-a", "r-b"), (1.0, 1.0), "none", 16)
MODULES = {"merged-1": Module("merged-1", PAIR.members, 16, 9, PAIR)}
BEFORE = RoutingTable(
    3,
    (
        Route("a", "r-a", "merged-1", Placement.MERGED, Action.REWEIGHT, "fits.", "ta", 0.97, 0.9, 0.8),
        Route("b", "r-b", "merged-1", Placement.MERGED, Action.REWEIGHT, "fits.", "ta", 0.95),
        Route("gone", "r-gone", "separate-gone", Placement.SEPARATE, Action.ROUTE, "alone"),
    ),
)


def today(name: str, revision: str = "", placement: Placement = Placement.SEPARATE) -> Decision:
    return Decision(name, revision or f"r-{name}", placement, Action.ROUTE, "today")


def adapter(name: str, revision: str = "") -> Adapter:
    return Adapter(name, revision or f"r-{name}", "/source", 8, 1)


def back(*decisions: Decision, holding: frozenset[str] = frozenset({PAIR.key})) -> dict[str, Decision]:
    return {one.adapter: one for one in decisions_back_to(BEFORE, decisions, MODULES, holding)}


def test_a_merged_group_that_still_holds_comes_back_as_it_was() -> None:
    decisions = back(today("a"), today("b"), today("c"))
    assert decisions["a"].recipe == decisions["b"].recipe == PAIR
    assert (decisions["a"].action, decisions["a"].predicted_retention) == (Action.REWEIGHT, 0.9)
    assert decisions["c"].placement is Placement.SEPARATE
    assert all("rolled back" in decision.reason for decision in decisions.values())


def test_a_group_of_which_a_member_is_another_revision_gone_or_protected_does_not() -> None:
    for other in (today("b", "r-new"), None, today("b", placement=Placement.PROTECTED)):
        decisions = back(*filter(None, (today("a"), other)))
        assert decisions["a"].placement is Placement.SEPARATE
        if other is not None and other.placement is Placement.PROTECTED:
            assert decisions["b"] == other
        elif other is not None:
            assert (decisions["b"].revision, decisions["b"].recipe) == ("r-new", None)


def test_a_group_that_failed_since_does_not() -> None:
    decisions = back(today("a"), today("b"), holding=frozenset())
    assert {decision.placement for decision in decisions.values()} == {Placement.SEPARATE}


def test_what_does_not_come_back_is_told() -> None:
    adapters = (adapter("a"), adapter("b", "r-new"))
    decisions = decisions_back_to(BEFORE, (today("a"), today("b", "r-new")), MODULES, {PAIR.key})
    assert left_out(BEFORE, adapters, decisions) == (
        "a is served alone, since its merged module does not hold any more",
        "b was registered anew since and is served alone",
        "gone was removed since and is left out",
    )
    leaving = (*adapters, replace(adapter("gone"), leaving=True))
    assert left_out(BEFORE, leaving, decisions)[2].startswith("gone was removed")
