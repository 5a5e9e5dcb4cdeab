"""Lessons change what is learnt from as they say, and nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest

from probe.bank.records import Label, Records
from probe.evaluation.teaching import fewer_merges, fewer_rows, noisy, shuffled


def merges(records: Records) -> list[Label]:
    return [label for label in records.labels if label.action != "single"]


def alone(records: Records) -> list[Label]:
    return [label for label in records.labels if label.action == "single"]


def modules(labels: list[Label]) -> set[tuple[object, ...]]:
    return {(label.members, label.operator) for label in labels}


@pytest.mark.parametrize("teach", [fewer_merges(0.5), fewer_rows(0.25), noisy(0.2), shuffled])
def test_adapters_alone_stay_as_they_are(planted: Records, teach: object) -> None:
    assert alone(teach(planted)) == alone(planted)  # type: ignore[operator]


def test_fewer_merges_keep_whole_modules_and_are_nested(planted: Records) -> None:
    half, quarter = (merges(fewer_merges(share)(planted)) for share in (0.5, 0.25))
    assert modules(quarter) < modules(half) < modules(merges(planted))
    assert len(half) == pytest.approx(len(merges(planted)) / 2, rel=0.2)
    assert half == [label for label in merges(planted) if (label.members, label.operator) in modules(half)]


def test_fewer_rows_make_wider_labels_of_the_same_retention(planted: Records) -> None:
    for before, after in zip(merges(planted), merges(fewer_rows(0.25)(planted)), strict=True):
        assert after.num_rows == math.ceil(before.num_rows / 4)
    errors = [
        np.mean([label.gain.standard_error for label in merges(records)])
        for records in (planted, fewer_rows(0.25)(planted))
    ]
    assert errors[1] == pytest.approx(2 * errors[0], rel=0.1)


def test_noise_moves_retention_by_as_much_as_asked(planted: Records) -> None:
    moved = [
        after.retention.value - before.retention.value
        for before, after in zip(merges(planted), merges(noisy(0.2)(planted)), strict=True)
    ]
    assert np.std(moved) == pytest.approx(0.2, rel=0.15)
    assert np.mean(moved) == pytest.approx(0.0, abs=0.05)


def test_shuffling_moves_whole_modules_among_those_of_one_size(planted: Records) -> None:
    def measured(records: Records) -> list[tuple[int, tuple[float, ...]]]:
        modules: dict[object, list[float]] = {}
        for label in merges(records):
            modules.setdefault((label.members, label.operator), []).append(label.retention.value)
        return sorted((len(kept), tuple(kept)) for kept in modules.values())

    before, after = measured(planted), measured(shuffled(planted))
    assert before == after
    old = {(label.members, label.operator, label.adapter): label.merged_scores for label in merges(planted)}
    new = {(label.members, label.operator, label.adapter): label.merged_scores for label in merges(shuffled(planted))}
    assert old.keys() == new.keys()
    assert np.mean([old[key] == new[key] for key in old]) < 0.3
