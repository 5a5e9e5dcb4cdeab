"""The cache of signals: by what they depend on, in both orientations, whole or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from probe.predictors.forecast import AdapterEvidence
from probe.vectors import Features, PairFeatures
from serve.signals import evidence as module
from serve.signals.evidence import AdapterMeasured, Evidence, PairMeasured, Subject

MATH = Subject("a" * 64, "1" * 64, "math", "base /models/base")
CODE = Subject("b" * 64, None, None, "base /models/base")
MEASURED = AdapterMeasured(AdapterEvidence(np.array([1.0, np.nan, 0.1 + 0.2]), 1.0), ("x", "y"), 30, "p.safetensors")


def pair(base: float = 0.0) -> PairMeasured:
    forth, back, symmetric = (Features(np.array([base + n, np.nan]), {}) for n in range(3))
    return PairMeasured(PairFeatures(forth, back, symmetric), (np.array([0.5, 0.25]), np.empty(0)))


def values(measured: PairMeasured | None) -> list[list[float]]:
    assert measured is not None
    own = measured.features
    return [own.forth.values.tolist(), own.back.values.tolist(), own.symmetric.values.tolist()]


def test_an_adapter_comes_back_bit_for_bit_also_to_another_process(tmp_path: Path) -> None:
    Evidence(tmp_path).put_adapter(MATH, MEASURED)
    found = Evidence(tmp_path).adapter(MATH)
    assert found is not None
    np.testing.assert_array_equal(found.evidence.values, MEASURED.evidence.values)
    assert replace(found, evidence=MEASURED.evidence) == replace(MEASURED) or found.modules == MEASURED.modules
    assert (found.modules, found.num_layers, found.profile, found.evidence.rho) == (
        ("x", "y"),
        30,
        "p.safetensors",
        1.0,
    )


def test_a_pair_is_found_from_both_sides_with_directions_exchanged(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path)
    evidence.put_pair(MATH, CODE, pair())
    there, back = Evidence(tmp_path).pair(MATH, CODE), Evidence(tmp_path).pair(CODE, MATH)
    np.testing.assert_array_equal(values(there), values(pair()))
    np.testing.assert_array_equal(values(back), values(pair().reversed))
    assert there is not None
    assert back is not None
    assert [len(one) for one in there.damage] == [2, 0]
    assert [len(one) for one in back.damage] == [0, 2]


def test_a_pair_that_was_put_the_other_way_round_is_the_same(tmp_path: Path) -> None:
    Evidence(tmp_path / "1").put_pair(MATH, CODE, pair())
    Evidence(tmp_path / "2").put_pair(CODE, MATH, pair().reversed)
    np.testing.assert_array_equal(
        values(Evidence(tmp_path / "1").pair(MATH, CODE)), values(Evidence(tmp_path / "2").pair(MATH, CODE))
    )


@pytest.mark.parametrize("change", [{"revision": "c" * 64}, {"rows": None}, {"domain": "code"}, {"base": "another"}])
def test_other_content_rows_domain_or_base_are_other_signals(tmp_path: Path, change: dict[str, str | None]) -> None:
    evidence = Evidence(tmp_path)
    evidence.put_adapter(MATH, MEASURED)
    assert evidence.adapter(replace(MATH, **change)) is None


def test_without_rows_the_base_model_does_not_matter(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path)
    evidence.put_adapter(CODE, MEASURED)
    assert evidence.adapter(replace(CODE, base="another")) is not None


def test_signals_of_another_schema_are_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Evidence(tmp_path).put_adapter(MATH, MEASURED)
    monkeypatch.setattr(module, "SCHEMA_VERSION", 999)
    assert Evidence(tmp_path).adapter(MATH) is None


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: object, **arrays: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("serve.signals.evidence.np.savez", fail)
    with pytest.raises(OSError, match="full"):
        Evidence(tmp_path).put_adapter(MATH, MEASURED)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"no archive"])
def test_a_damaged_file_is_measured_again(tmp_path: Path, content: bytes) -> None:
    Evidence(tmp_path).put_adapter(MATH, MEASURED)
    (file,) = tmp_path.rglob("*.npz")
    file.write_bytes(content)
    assert Evidence(tmp_path).adapter(MATH) is None
    Evidence(tmp_path).put_adapter(MATH, MEASURED)
    assert Evidence(tmp_path).adapter(MATH) is not None


def test_subjects_are_listed_with_calibrated_ones_last(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path)
    for one in (MATH, CODE, replace(MATH, rows=None)):
        evidence.put_adapter(one, MEASURED)
    assert evidence.subjects()[-1] == MATH
    assert set(evidence.subjects()) == {MATH, CODE, replace(MATH, rows=None)}
