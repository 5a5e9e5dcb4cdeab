"""Forecasts: who is the victim, how much is known, and what is asked together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from probe.bank.records import Records
from probe.predictors.forecast import AdapterEvidence, Evidence, EvidenceMissing, Merge, MergeRecipe
from probe.predictors.predictor import Predictor
from probe.predictors.schema import SIGNALS, Missing
from probe.predictors.views import COLD_START, View
from probe.vectors import Features, PairFeatures
from tests.planted_bank import Truth
from tests.probe.predictors.small import evidence_of

Planted = tuple[Records, Truth]
TA = MergeRecipe("ta")
FOUR = ("code-1", "instruction-0", "math-3", "science-2")


def known_by_revision(records: Records, evidence: Evidence) -> Evidence:
    """Return evidence whose keys tell the predictor that it was fitted on these adapters."""
    revisions = {one.name: one.revision for one in records.adapters}
    return Evidence(
        {revisions[name]: one for name, one in evidence.adapters.items()},
        {(revisions[a], revisions[b]): pair for (a, b), pair in evidence.pairs.items()},
    )


def without(predictor: Predictor, evidence: Evidence, missing: Missing) -> Evidence:
    """Return evidence as it would be where something cannot be measured."""
    schema = predictor.artefact.schema

    def blank(values: np.ndarray, columns: Sequence[object]) -> np.ndarray:
        return np.where([bool(column.needs & missing) for column in columns], math.nan, values)  # type: ignore[attr-defined]

    return Evidence(
        {name: AdapterEvidence(blank(one.values, schema.adapter), one.rho) for name, one in evidence.adapters.items()},
        {
            key: PairFeatures(
                Features(blank(pair.forth.values, schema.directed), {}),
                Features(blank(pair.back.values, schema.directed), {}),
                Features(blank(pair.symmetric.values, schema.symmetric), {}),
            )
            for key, pair in evidence.pairs.items()
        },
    )


def radius(predictor: Predictor, merge: Merge, evidence: Evidence) -> float:
    (found,) = predictor.forecast([merge], evidence)
    widths = {round(kept - low, 9) for kept, low in zip(found.retention, found.lower_bound, strict=True)}
    assert len(widths) == 1
    return widths.pop()


def test_forecasts_follow_what_was_planted(planted: Planted, fitted: Predictor) -> None:
    records, truth = planted
    names = sorted(truth.place)
    merges = [Merge(pair, MergeRecipe(operator)) for pair in combinations(names, 2) for operator in ("ta", "ties")]
    found = fitted.forecast(merges, evidence_of(records, names))
    measured = [
        truth.retention(a, b, merge.recipe.operator)
        for merge in merges
        for a, b in (merge.members, merge.members[::-1])
    ]
    forecast = [kept for one in found for kept in one.retention]
    assert np.corrcoef(measured, forecast)[0, 1] > 0.9
    for one in found:
        assert one.worst == min(one.retention)
        assert one.macro == pytest.approx(np.mean(one.retention))
        assert 0 <= one.safe_probability <= 1
        assert all(low < kept for low, kept in zip(one.lower_bound, one.retention, strict=True))
        assert one.worst_lower_bound < one.worst
        assert one.group == "merge/" + one.group.split("/")[1]
        assert one.num_labels >= 9


def test_swapping_members_swaps_what_they_keep(planted: Planted, fitted: Predictor) -> None:
    evidence = evidence_of(planted[0], FOUR)
    for a, b in combinations(FOUR, 2):
        there, back = fitted.forecast([Merge((a, b), TA), Merge((b, a), TA)], evidence)
        assert there.retention == back.retention[::-1]
        assert there.retention[0] != there.retention[1]
        assert (there.macro, there.worst, there.safe_probability) == (back.macro, back.worst, back.safe_probability)
    recipe = MergeRecipe("ta", weights=(1.0, 0.5))
    turned = replace(recipe, weights=(0.5, 1.0))
    there, back = fitted.forecast([Merge(FOUR[:2], recipe), Merge(FOUR[1::-1], turned)], evidence)
    assert there.retention == back.retention[::-1]


def test_a_set_is_forecast_alike_in_any_order(planted: Planted, fitted: Predictor) -> None:
    evidence = evidence_of(planted[0], FOUR)
    there, back = fitted.forecast([Merge(FOUR, TA), Merge(FOUR[::-1], TA)], evidence)
    assert there.retention == pytest.approx(back.retention[::-1])
    assert there.worst_lower_bound == pytest.approx(back.worst_lower_bound)
    assert there.macro == pytest.approx(np.mean(there.retention))
    assert there.worst == min(there.retention)
    assert math.isfinite(there.worst_lower_bound)


def test_asked_together_is_asked_alone(planted: Planted, fitted: Predictor) -> None:
    evidence = evidence_of(planted[0], FOUR)
    merges = [Merge(FOUR[:size], MergeRecipe(operator)) for size in (2, 3, 4) for operator in ("ta", "ties", "pico")]
    together = fitted.forecast(merges, evidence)
    assert [one.members for one in together] == [merge.members for merge in merges]
    for merge, one in zip(merges, together, strict=True):
        (alone,) = fitted.forecast([merge], evidence)
        assert alone.retention == pytest.approx(one.retention)
        assert alone.lower_bound == pytest.approx(one.lower_bound)
    assert fitted.forecast([], evidence) == ()


@pytest.mark.parametrize("members", [FOUR[:2], FOUR])
def test_knowing_less_never_narrows_the_bound(planted: Planted, fitted: Predictor, members: tuple[str, ...]) -> None:
    records, _ = planted
    merge = Merge(members, TA)
    of_signals = {}
    for signals, missing in SIGNALS.items():
        of_rho = [
            radius(fitted, merge, without(fitted, evidence_of(records, members, rhos), missing))
            for rhos in ((1.0,) * len(members), (0.1, *(1.0,) * (len(members) - 1)), (0.1,) * len(members))
        ]
        assert of_rho == sorted(of_rho)
        of_signals[signals] = of_rho
    for poorer, richer in ((a, b) for a in SIGNALS for b in SIGNALS if SIGNALS[a] > SIGNALS[b]):
        assert all(low >= high for low, high in zip(of_signals[poorer], of_signals[richer], strict=True))
    assert len({width for own in of_signals.values() for width in own}) > 1


def test_what_a_view_does_not_know_is_not_read(planted: Planted, fitted: Predictor) -> None:
    """Half of a calibration is none: the forecast is the one whose errors were measured without it."""
    evidence = evidence_of(planted[0], FOUR[:2])
    nothing = without(fitted, evidence, SIGNALS["no calibration"])
    half = Evidence({**evidence.adapters, FOUR[0]: nothing.adapters[FOUR[0]]}, evidence.pairs)
    merge = Merge(FOUR[:2], TA)
    assert fitted.forecast([merge], half) == fitted.forecast([merge], nothing)
    assert fitted.forecast([merge], half) != fitted.forecast([merge], evidence)


def test_adapters_that_it_was_fitted_on_are_known_by_their_revision(planted: Planted, fitted: Predictor) -> None:
    records, _ = planted
    evidence = evidence_of(records, FOUR[:2])
    known = known_by_revision(records, evidence)
    new, old = (Merge(tuple(own.adapters), TA) for own in (evidence, known))
    assert fitted.forecast([new], evidence)[0].retention == fitted.forecast([old], known)[0].retention
    assert radius(fitted, old, known) < radius(fitted, new, evidence)


def test_between_two_shares_of_training_the_earlier_one_stands(planted: Planted, fitted: Predictor) -> None:
    evidence = evidence_of(planted[0], FOUR[:2], (0.1, 0.1))
    later = Evidence({name: replace(one, rho=0.6) for name, one in evidence.adapters.items()}, evidence.pairs)
    merge = Merge(FOUR[:2], TA)
    assert radius(fitted, merge, later) == radius(fitted, merge, evidence)


def test_earlier_than_anything_measured_there_is_no_bound(planted: Planted, fitted: Predictor) -> None:
    evidence = evidence_of(planted[0], FOUR[:2], (0.1, 0.1))
    earlier = Evidence({name: replace(one, rho=0.01) for name, one in evidence.adapters.items()}, evidence.pairs)
    (found,) = fitted.forecast([Merge(FOUR[:2], TA)], earlier)
    assert found.lower_bound == (-math.inf, -math.inf)
    assert found.worst_lower_bound == -math.inf
    assert found.num_labels == 0
    assert math.isfinite(found.worst)


def test_an_unknown_operator_has_the_bound_of_its_action(planted: Planted, fitted: Predictor) -> None:
    evidence = evidence_of(planted[0], FOUR[:2])
    known, unknown = fitted.forecast([Merge(FOUR[:2], TA), Merge(FOUR[:2], MergeRecipe("unheard of"))], evidence)
    assert (known.group, unknown.group) == ("merge/ta", "merge")
    assert unknown.num_labels > known.num_labels
    # No label was reweighted: what all labels say is all that is known.
    (reweighted,) = fitted.forecast([Merge(FOUR[:2], MergeRecipe("ta", weights=(1.0, 0.5)))], evidence)
    assert reweighted.group == "all"


def test_what_was_not_measured_has_a_name(planted: Planted, fitted: Predictor) -> None:
    evidence = evidence_of(planted[0], FOUR[:2])
    with pytest.raises(EvidenceMissing, match="science-2"):
        fitted.forecast([Merge(("code-1", "science-2"), TA)], evidence)
    with pytest.raises(EvidenceMissing, match="were not compared"):
        fitted.forecast([Merge(FOUR[:2], TA)], Evidence(evidence.adapters, {}))


def test_the_gain_of_an_adapter_in_training_is_forecast(planted: Planted, fitted: Predictor) -> None:
    records, truth = planted
    names = sorted(truth.place)
    evidence = evidence_of(records, names, (0.1,) * len(names))
    forecast = [fitted.gain(evidence.adapters[name]) for name in names]
    measured = [(truth.single[name] - 6) / 48 for name in names]
    assert np.corrcoef(forecast, measured)[0, 1] > 0.8


def test_every_radius_is_that_of_a_view_that_was_measured(fitted: Predictor) -> None:
    assert View(COLD_START, 1.0, 1.0, "all signals") in fitted.artefact.pair_calibration
    assert View(COLD_START, 0.1, 1.0, "weights only") in fitted.artefact.set_calibration
    for view, found in fitted.artefact.pair_calibration.items():
        for other, richer in fitted.artefact.pair_calibration.items():
            if view.knows_no_more_than(other):
                assert all(own.value >= richer.member[group].value for group, own in found.member.items())
