"""Partitions: what changes against the running one, and what does not."""

from __future__ import annotations

from router.partition import Group, best_partition, settled
from router.records import Recipe


def group(members: str, gain: float, operator: str = "ta") -> Group:
    names = tuple(sorted(members))
    recipe = Recipe(operator, names, (1.0,) * len(names), "none", 8)
    return Group(frozenset(members), recipe, gain, {}, {}, f"m-{members}-{operator}")


def names(partition: tuple[Group, ...]) -> set[str]:
    return {"".join(one.recipe.members) for one in partition}


def test_a_useless_group_is_in_no_partition() -> None:
    assert best_partition([group("ab", 0.0), group("cd", -1.0)]) == ()


def test_of_one_set_the_best_recipe_is_taken() -> None:
    better = group("ab", 0.4, "mean")
    assert best_partition([group("ab", 0.3), better]) == (better,)


def test_ties_go_by_content_whatever_the_order() -> None:
    one, other = group("ab", 0.4, "mean"), group("ab", 0.4, "ta")
    assert best_partition([one, other]) == best_partition([other, one])


def test_the_running_partition_is_kept_where_the_gain_is_within_the_margin() -> None:
    running, best = (group("ab", 0.40),), (group("ac", 0.44),)
    assert settled(best, running, 0.05) == running
    assert settled(best, running, 0.03) == best


def test_each_part_is_decided_alone() -> None:
    """A swap worth its while in one corner does not carry a worthless one in another through."""
    running = (group("ab", 0.40), group("wx", 0.10))
    best = (group("ac", 0.42), group("xyz", 0.90))
    assert names(settled(best, running, 0.05)) == {"ab", "xyz"}


def test_groups_that_touch_through_others_change_together() -> None:
    """0.88 for bc and de does not beat 0.80 for ab and cd by more than the margin, though bc alone beats ab."""
    running = (group("ab", 0.40), group("cd", 0.40))
    assert names(settled((group("bc", 0.50), group("de", 0.34)), running, 0.05)) == {"ab", "cd"}
    assert names(settled((group("bc", 0.50), group("de", 0.38)), running, 0.05)) == {"bc", "de"}


def test_groups_of_both_partitions_are_counted_once() -> None:
    same = group("ab", 0.4)
    assert settled((same,), (same,), 0.0) == (same,)
