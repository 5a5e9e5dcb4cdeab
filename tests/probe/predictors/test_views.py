"""Views: what is known decides which measured errors stand for a forecast, and never one that knew more."""

from __future__ import annotations

import itertools

from probe.predictors.schema import CALIBRATION, CROSS_TASK, METADATA, SIGNALS
from probe.predictors.views import BANK_AWARE, COLD_START, View, closest, signals_of, view_of

ALL, WEIGHTS = "all signals", "weights only"


def test_a_merge_is_seen_by_its_two_least_known_members() -> None:
    assert view_of([1.0, 0.1, 1.0], 1, frozenset()) == View(BANK_AWARE, 0.1, 1.0, ALL)
    assert view_of([0.1, 0.05, 1.0], 3, frozenset({CROSS_TASK})) == View(COLD_START, 0.05, 0.1, "no cross-task")
    assert view_of([1.0, 1.0], 0, frozenset()).num_new == BANK_AWARE


def test_what_is_missing_names_the_richest_choice_of_signals_that_does_without() -> None:
    for key, missing in SIGNALS.items():
        assert signals_of(missing) == key
    assert signals_of(frozenset({CALIBRATION})) == "no calibration"
    assert signals_of(frozenset({CALIBRATION, METADATA})) == WEIGHTS


def test_the_closest_view_knows_no_more_than_what_is_known() -> None:
    measured = [
        View(regime, low, high, signals)
        for regime in (BANK_AWARE, COLD_START)
        for low, high in ((1.0, 1.0), (0.1, 1.0), (0.1, 0.1), (0.02, 0.02))
        for signals in SIGNALS
    ]
    assert closest(View(BANK_AWARE, 0.1, 1.0, ALL), measured) == View(BANK_AWARE, 0.1, 1.0, ALL)
    # At 30 % of the training the errors of 10 % stand; at 5 % beside a finished one those of 2 %.
    assert closest(View(BANK_AWARE, 0.3, 1.0, ALL), measured) == View(BANK_AWARE, 0.1, 1.0, ALL)
    assert closest(View(COLD_START, 0.05, 1.0, WEIGHTS), measured) == View(COLD_START, 0.02, 0.02, WEIGHTS)
    assert closest(View(COLD_START, 0.01, 1.0, ALL), measured) is None
    for asked in measured:
        found = closest(asked, [view for view in measured if view != asked])
        assert found is None or found.knows_no_more_than(asked)


def test_knowing_less_is_an_order() -> None:
    views = [View(regime, low, 1.0, signals) for regime in (1, 2) for low in (0.1, 1.0) for signals in SIGNALS]
    for a, b, c in itertools.product(views, repeat=3):
        assert not (a.knows_no_more_than(b) and b.knows_no_more_than(a)) or a == b
        if a.knows_no_more_than(b) and b.knows_no_more_than(c):
            assert a.knows_no_more_than(c)


def test_views_have_names_of_their_own() -> None:
    assert View(COLD_START, 0.1, 1.0, ALL).key == "cold start, 0.1 beside 1, all signals"
    assert View(BANK_AWARE, 0.02, 0.02, WEIGHTS).key == "bank-aware, 0.02 beside 0.02, weights only"
