"""Splits keep what is tested apart from what is learnt from, whatever the bank looks like."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from probe.evaluation.splits import (
    Regime,
    Split,
    as_groups,
    cold_start,
    leave_domain_out,
    leave_operator_out,
    leave_out,
    together,
)
from tests.probe.planted import adapter

NAMES = st.lists(st.text("abcdef", min_size=1, max_size=3), min_size=2, max_size=9, unique=True)
OPERATORS = ("mean", "ta")


def all_splits(names: list[str], num_groups: int) -> list[Split]:
    groups = as_groups({name: place % num_groups for place, name in enumerate(names)})
    domains = {name: name[0] for name in names}
    return [*leave_out(groups), *cold_start(groups), *leave_domain_out(domains), *leave_operator_out(OPERATORS)]


@given(NAMES, st.integers(1, 4))
def test_no_tested_merge_shares_a_left_out_adapter_with_training(names: list[str], num_groups: int) -> None:
    merges = [(members, operator) for size in (2, 3) for members in combinations(names, size) for operator in OPERATORS]
    for split in all_splits(names, num_groups):
        taught = [members for members, operator in merges if split.trains(members, operator)]
        for members, operator in merges:
            if split.tests(members, operator):
                assert not split.trains(members, operator)
                assert split.left_out & set(members) or operator == split.operator
        assert not split.left_out & {name for members in taught for name in members}


@given(NAMES, st.integers(2, 4))
def test_every_pair_is_tested_once_in_a_regime(names: list[str], num_groups: int) -> None:
    tested: Counter[tuple[Regime, tuple[str, ...], str]] = Counter()
    splits = all_splits(names, num_groups)
    pairs = [(pair, operator) for pair in combinations(names, 2) for operator in OPERATORS]
    for split in splits:
        tested.update((split.regime, *one) for one in pairs if split.tests(*one))
    assert all(tested[regime, *one] == 1 for regime in {split.regime for split in splits} for one in pairs)


def test_a_cold_start_has_seen_neither_side() -> None:
    groups = as_groups({name: place % 3 for place, name in enumerate("abcdef")})
    for split in cold_start(groups):
        for pair in combinations("abcdef", 2):
            if split.tests(pair, "ta"):
                assert split.left_out.issuperset(pair)


def test_sets_of_more_than_two_groups_are_not_tested_in_a_cold_start() -> None:
    groups = as_groups({"a": 0, "b": 1, "c": 2})
    assert not any(split.tests(("a", "b", "c"), "ta") for split in cold_start(groups))


def test_a_bank_knows_all_but_what_is_left_out_and_a_cold_start_nobody() -> None:
    (new,) = leave_out([frozenset("a")])
    assert list(new.states(("a", "b"), 0.1)) == [(0.1, 1.0), (0.1, 0.1)]
    assert next(iter(leave_operator_out(["ta"])[0].states(("a", "b"), 0.1))) == (0.1, 0.1)
    cold = cold_start([frozenset("a"), frozenset("b")])[0]
    assert next(iter(cold.states(("a", "b"), 0.1))) == (0.1, 0.1)


def test_adapters_of_one_group_are_left_out_together() -> None:
    twins = [replace(adapter(name, "math"), group="seed") for name in ("one", "two")]
    assert together([*twins, adapter("alone", "code")]) == (frozenset({"alone"}), frozenset({"one", "two"}))
