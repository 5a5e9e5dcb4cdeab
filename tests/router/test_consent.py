"""What needs a person's word, as a pure function of the served table and a plan's decisions."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from router.consent import Consent, change_of
from router.records import Action, Decision, Placement, Recipe, Route, RoutingTable

PAIR = Recipe("ta", ("r-a", "r-b"), (1.0, 1.0), "none", 16)
OTHER = replace(PAIR, operator="mean")
MERGED = {"merged-1": PAIR}


def separate(name: str, revision: str = "") -> Decision:
    return Decision(name, revision or f"r-{name}", Placement.SEPARATE, Action.ROUTE, "alone")


def merged(name: str, recipe: Recipe = PAIR) -> Decision:
    return Decision(name, f"r-{name}", Placement.MERGED, Action.MERGE, "fits", recipe, 0.9, 0.8)


def protected(name: str) -> Decision:
    return Decision(name, f"r-{name}", Placement.PROTECTED, Action.ROUTE, "protected")


def route(name: str, module: str = "", placement: Placement = Placement.SEPARATE, revision: str = "") -> Route:
    return Route(name, revision or f"r-{name}", module or f"separate-{name}", placement, Action.ROUTE, "before")


def consent(*routes: Route, broken: str = "") -> Consent:
    return Consent(RoutingTable(1, routes), MERGED, frozenset({broken} - {""}))


RUNNING_PAIR = (route("a", "merged-1", Placement.MERGED), route("b", "merged-1", Placement.MERGED))


def test_a_newcomer_is_served_alone_and_its_merge_waits() -> None:
    asked = consent(route("a"))
    granted = asked.granted((merged("a"), merged("b")))
    assert [one.placement for one in granted] == [Placement.SEPARATE, Placement.SEPARATE]
    assert [one.reason for one in granted] == [
        "a: served as before until a person approves a plan that changes that",
        "b: separate until a person approves its merge",
    ]
    assert asked.pending((merged("a"), merged("b"))) == {change_of(merged("a")), change_of(merged("b"))}


def test_what_is_served_already_needs_no_word_and_may_say_another_reason() -> None:
    asked = consent(*RUNNING_PAIR)
    decisions = (merged("a"), merged("b"))
    assert asked.granted(decisions) == decisions
    assert asked.pending(decisions) == set()


def test_taking_apart_what_holds_waits_and_what_is_broken_goes_at_once() -> None:
    decisions = (separate("a"), separate("b"))
    held = consent(*RUNNING_PAIR)
    assert [(one.placement, one.recipe) for one in held.granted(decisions)] == [(Placement.MERGED, PAIR)] * 2
    assert len(held.pending(decisions)) == 2
    broken = consent(*RUNNING_PAIR, broken="merged-1")
    assert broken.granted(decisions) == decisions
    assert broken.pending(decisions) == set()


def test_a_broken_group_is_served_alone_until_its_next_merge_is_approved() -> None:
    asked = consent(*RUNNING_PAIR, broken="merged-1")
    decisions = (merged("a", OTHER), merged("b", OTHER))
    assert [one.placement for one in asked.granted(decisions)] == [Placement.SEPARATE] * 2
    assert len(asked.pending(decisions)) == 2


def test_a_new_revision_leaves_its_group_and_the_partner_stays_where_it_was_measured() -> None:
    asked = consent(*RUNNING_PAIR)
    granted = asked.granted((separate("a", "r-new"), separate("b")))
    assert [(one.revision, one.placement) for one in granted] == [
        ("r-new", Placement.SEPARATE),
        ("r-b", Placement.MERGED),
    ]


def test_a_flag_is_obeyed_at_once_in_both_directions() -> None:
    asked = consent(*RUNNING_PAIR)
    assert asked.granted((protected("a"), separate("b")))[0] == protected("a")
    unflagged = consent(route("a", placement=Placement.PROTECTED), route("b"))
    assert unflagged.granted((separate("a"),)) == (separate("a"),)
    assert unflagged.granted((merged("a"), merged("b")))[0].placement is Placement.SEPARATE


STATES = st.sampled_from([None, route("a"), RUNNING_PAIR[0], route("a", placement=Placement.PROTECTED)])
DECISIONS = st.sampled_from([separate("a"), merged("a"), merged("a", OTHER), protected("a"), separate("a", "r-new")])


@given(STATES, DECISIONS, st.booleans())
def test_granting_merges_nobody_anew_and_granting_twice_changes_nothing(
    served: Route | None, decision: Decision, is_broken: bool
) -> None:
    asked = consent(*filter(None, [served]), broken="merged-1" if is_broken else "")
    (granted,) = asked.granted((decision,))
    if granted.placement is Placement.MERGED:
        assert served is not None
        assert (served.placement, granted.recipe) == (Placement.MERGED, PAIR)
        assert not is_broken or decision == merged("a")
    assert asked.granted((granted,)) == (granted,)
    assert asked.pending((granted,)) == set()
