"""Records on disk: derived columns are what the labels say, and files of another kind are refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from probe.bank.ceilings import Ceilings, plain_pairs
from probe.bank.record_files import DERIVED, UnknownRecordsVersion, read_records, write_records
from probe.bank.records import SCHEMA_VERSION, Records, RecordsError
from tests.probe.planted import NUM_ROWS, adapter, label, records_of, scores

BASE, OWN, BETTER = scores(10), scores(70), scores(90)


@pytest.fixture
def records() -> Records:
    """Two adapters; a stranger of its domain does better on the rows of `a` than `a` itself."""
    return records_of(
        [adapter("a", "math", "one"), adapter("b", "code", "one"), adapter("c", "math", "two")],
        [
            label(("a",), "a", BASE, OWN, OWN),
            label(("b",), "b", BASE, OWN, OWN),
            label(("c",), "a", BASE, OWN, BETTER),
            label(("a", "b"), "a", BASE, OWN, scores(64)),
            label(("a", "b"), "b", BASE, OWN, scores(61)),
        ],
    )


def test_derived_columns_follow_from_the_labels(records: Records, tmp_path: Path) -> None:
    write_records(tmp_path, records)
    table = pq.read_table(tmp_path / "labels.parquet").to_pylist()
    row = next(row for row in table if len(row["members"]) == 2 and row["adapter"] == "a")
    assert set(DERIVED) <= set(row)
    assert row["num_rows"] == NUM_ROWS
    assert (row["base"], row["single"], row["merged"]) == pytest.approx((0.1, 0.7, 0.64))
    assert row["gain"] == pytest.approx(0.6)
    assert row["gain_se"] == pytest.approx(np.std([0] * 40 + [1] * 60, ddof=1) / 10)
    assert row["retention"] == pytest.approx(0.9)
    assert row["retention_lower"] < 0.9
    assert row["normalised_accuracy"] == pytest.approx(0.64 / 0.7)
    ratio = 0.64 / 0.7
    rest = [1 - ratio] * 64 + [-ratio] * 6 + [0.0] * 30
    assert row["normalised_accuracy_se"] == pytest.approx(np.std(rest, ddof=1) / 10 / 0.7)
    assert row["ceiling"] == pytest.approx(0.9)
    assert row["normalised_gain"] == pytest.approx(0.6 / 0.8)
    assert row["is_sound"] == 1


def test_without_a_gain_there_is_no_retention_and_the_label_is_marked(tmp_path: Path) -> None:
    records = records_of([adapter("a", "math"), adapter("b", "code")], [label(("a", "b"), "a", OWN, OWN, OWN)])
    write_records(tmp_path, records)
    (row,) = pq.read_table(tmp_path / "labels.parquet").to_pylist()
    assert row["is_sound"] == 0
    assert math.isnan(row["retention"])
    assert math.isnan(row["ceiling"])


def test_ceilings_compare_on_rows_that_all_were_asked(records: Records) -> None:
    """The stranger was asked the first half only, where it is right on all, as the adapter itself is."""
    half = slice(0, NUM_ROWS // 2)
    stranger = label(("c",), "a", BASE[half], OWN[half], BETTER[half])
    kept = [one for one in records.labels if one.members != ("c",)]
    ceilings = Ceilings(records_of(records.adapters, [*kept, stranger]))
    assert ceilings.best("a") == 1.0
    assert ceilings.normalised_gain("a") == 1.0
    assert math.isnan(ceilings.best("c"))
    assert math.isnan(ceilings.normalised_gain("c"))


def test_a_pair_with_an_unsound_side_is_no_pair(records: Records) -> None:
    kept = [one for one in records.labels if not (one.members == ("a", "b") and one.adapter == "b")]
    unsound = label(("a", "b"), "b", OWN, OWN, OWN)
    assert plain_pairs(records_of(records.adapters, [*kept, unsound])) == {}


def test_equal_records_give_equal_bytes(records: Records, tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_records(tmp_path / name, records)
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


def test_records_of_another_version_or_none_are_refused_by_name(records: Records, tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match="mergeprobe bank label"):
        read_records(tmp_path)
    write_records(tmp_path, records)
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert facts["schema_version"] == SCHEMA_VERSION
    (tmp_path / "facts.json").write_text(json.dumps(facts | {"schema_version": SCHEMA_VERSION + 1}))
    with pytest.raises(UnknownRecordsVersion, match=f"version {SCHEMA_VERSION + 1}"):
        read_records(tmp_path)
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    (tmp_path / "labels.parquet").write_bytes(b"PAR1")
    with pytest.raises(RecordsError, match="damaged"):
        read_records(tmp_path)
