"""Which pairs are compared, and at which shares of training of either."""

from __future__ import annotations

from probe.bank.labelling.pair_plan import compared_pairs, rhos_of_pair
from probe.bank.records import Label
from tests.probe.planted import label, scores

EARLY = (0.02, 0.05, 0.1, 1.0)
SAME = ((0.02, 0.02), (0.05, 0.05), (0.1, 0.1), (1.0, 1.0))


def labelled(*sets: tuple[str, ...]) -> list[Label]:
    right = scores(3)
    return [label(names, names[0], right, right, right) for names in sets]


def test_adapters_in_training_meet_each_other_and_finished_ones() -> None:
    assert set(rhos_of_pair(EARLY, EARLY)) == {*SAME, (0.1, 1.0), (1.0, 0.1)}
    assert rhos_of_pair((0.05, 1.0), (0.1, 1.0)) == ((1.0, 0.1), (1.0, 1.0))


def test_a_finished_adapter_meets_whatever_is_known_of_the_other() -> None:
    assert rhos_of_pair((1.0,), EARLY) == tuple((1.0, rho) for rho in EARLY)
    assert rhos_of_pair(EARLY, (1.0,)) == tuple((rho, 1.0) for rho in EARLY)
    assert rhos_of_pair((1.0,), (1.0,)) == ((1.0, 1.0),)


def test_what_matters_most_is_compared_first_and_pairs_within_larger_sets_at_those_shares_only() -> None:
    labels = labelled(("a", "b"), ("a", "b", "c"), ("a",), ("a", "b"))
    first, within, merged = compared_pairs(labels, {"a": EARLY, "b": EARLY, "c": (0.05, 1.0), "d": EARLY})
    assert [pair.names for pair in first] == [pair.names for pair in merged] == [("a", "b")]
    assert len(merged[0].rhos) == 6
    assert set(first[0].rhos) == {(0.1, 0.1), (0.1, 1.0), (1.0, 0.1), (1.0, 1.0)}
    assert [pair.names for pair in within] == [("a", "c"), ("b", "c")]
    assert within[0].rhos == ((0.1, 1.0), (1.0, 1.0))
    (pair,) = compared_pairs(labelled(("a", "b", "c")), dict.fromkeys("abc", EARLY))[1][:1]
    assert set(pair.rhos) == {(0.1, 0.1), (0.1, 1.0), (1.0, 0.1), (1.0, 1.0)}
