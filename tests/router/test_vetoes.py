"""For how long a person's veto holds."""

from __future__ import annotations

from dataclasses import replace

from router.records import Adapter
from router.vetoes import Veto, group_circumstances, vetoed_groups

A = Adapter("a", "r-a", "/source", 8, 1, evaluation="rows-a")
B = Adapter("b", "r-b", "/source", 8, 1, evaluation="rows-b")
EVALUATIONS = {"r-a": "rows-a", "r-b": "rows-b"}
VETO = Veto(("r-a", "r-b"), group_circumstances("settings", ("r-b", "r-a"), EVALUATIONS), "plan-1", "anna", "no")
GROUP = frozenset({frozenset({"r-a", "r-b"})})


def test_a_veto_holds_while_members_rows_and_settings_are_the_same() -> None:
    assert vetoed_groups([VETO], "settings", [A, B]) == GROUP
    renamed = [replace(A, name="z", domain="math"), B, replace(B, name="c", revision="r-c")]
    assert vetoed_groups([VETO], "settings", renamed) == GROUP


def test_a_veto_is_void_with_other_settings_rows_or_revisions() -> None:
    assert not vetoed_groups([VETO], "other settings", [A, B])
    assert not vetoed_groups([VETO], "settings", [replace(A, evaluation="others"), B])
    assert not vetoed_groups([VETO], "settings", [replace(A, revision="r-new"), B])
    assert not vetoed_groups([VETO], "settings", [A])


def test_a_veto_on_a_change_is_none_on_a_group() -> None:
    assert not vetoed_groups([replace(VETO, members=())], "settings", [A, B])
