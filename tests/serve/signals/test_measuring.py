"""Signals from files to evidence, on a base of characters, against the library asked directly."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from probe.adapter_io import read_adapter, revision_of
from probe.damage import fisher_damage
from probe.features import Trajectory, adapter_features, pair_features
from probe.profile_store import read_profile
from probe.profiles import AdapterProfile, Metadata, profile_of
from probe.rows import Row, write_rows
from probe.signals import Pair
from serve.signals import measuring
from serve.signals.evidence import Evidence, Subject
from serve.signals.measuring import Place, measure_adapter, measure_pairs
from serve.signals.subjects import Piece, Work
from tests import tiny
from tests.probe.test_reference import write_character_base


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("signals")
    return Place(write_character_base(root / "base"), root / "adapters", root / "rows", root / "evidence")


def subject(place: Place, number: int, domain: str | None = "math", has_rows: bool = True) -> Subject:
    """Put an adapter and its rows where a store would have them."""
    folder = tiny.write_adapter(place.adapters / "new", seed=number)
    revision = revision_of(folder)
    kept = place.adapters / revision
    if not kept.exists():
        folder.rename(kept)
    staged = place.rows / "new.jsonl"
    staged.parent.mkdir(exist_ok=True)
    write_rows(staged, [Row(f"<|im_start|>{number}{n}<|im_end|>", str(n), "forced") for n in range(6)])
    digest = hashlib.sha256(staged.read_bytes()).hexdigest()
    staged.rename(place.rows / f"{digest}.jsonl")
    return Subject(revision, digest if has_rows else None, domain, "base")


def weights_of(place: Place, one: Subject) -> AdapterProfile:
    facts = Metadata(domain=one.domain, rank=4, scaling=2.0)
    return profile_of(read_adapter(place.adapters / one.revision), metadata=facts)


def test_weights_alone_are_what_the_library_makes_of_them_and_load_no_base(place: Place) -> None:
    first, second = (subject(place, number, has_rows=False) for number in (1, 2))
    nowhere = Place(place.base / "absent", place.adapters, place.rows, place.evidence)
    measure_adapter(nowhere, first)
    measure_pairs(nowhere, first, [second])
    evidence = Evidence(place.evidence)
    adapter, pair = evidence.adapter(first), evidence.pair(first, second)
    assert adapter is not None
    assert pair is not None
    one, other = (Trajectory((1.0,), (weights_of(place, which),)) for which in (first, second))
    np.testing.assert_array_equal(adapter.evidence.values, adapter_features(one).values)
    np.testing.assert_array_equal(pair.features.symmetric.values, pair_features(one, other).symmetric.values)
    assert adapter.profile is None
    assert set(adapter.modules) == set(one.now.modules)
    assert [len(damage) for damage in pair.damage] == [0, 0]


def test_with_rows_everything_is_measured_and_the_profile_is_kept_for_operators(place: Place) -> None:
    first, second = (subject(place, number) for number in (3, 4))
    for one in (first, second):
        measure_adapter(place, one)
    measure_pairs(place, first, [second])
    evidence = Evidence(place.evidence)
    adapter, pair = evidence.adapter(first), evidence.pair(first, second)
    assert adapter is not None
    assert adapter.profile is not None
    assert pair is not None
    profile = read_profile(evidence.profiles / adapter.profile)
    assert profile is not None
    assert profile.calibration is not None
    assert profile.calibration.num_rows == 6
    other = read_profile(evidence.profiles / str(evidence.adapter(second).profile))  # type: ignore[union-attr]
    assert other is not None
    np.testing.assert_allclose(pair.damage[0], fisher_damage(Pair(profile, other)), rtol=1e-6)
    light = Evidence(place.evidence)
    missing = np.isnan(pair.features.forth.values)
    assert missing.sum() < len(missing) / 2, "shifts and Fisher signals of both directions are there"
    assert light.pair(second, first) is not None


def test_a_partner_without_rows_leaves_that_direction_open(place: Place) -> None:
    first, second = subject(place, 5), subject(place, 6, has_rows=False)
    measure_pairs(place, first, [second])
    pair = Evidence(place.evidence).pair(first, second)
    assert pair is not None
    on_second, on_first = np.isnan(pair.features.forth.values), np.isnan(pair.features.back.values)
    assert on_first.sum() < on_second.sum()
    assert [len(damage) for damage in pair.damage] == [0, 2]


def test_the_domain_is_a_signal_too(place: Place) -> None:
    math, code = (subject(place, 7, domain, has_rows=False) for domain in ("math", "code"))
    for one in (math, code):
        measure_adapter(place, one)
    found = [Evidence(place.evidence).adapter(one) for one in (math, code)]
    values = [one.evidence.values for one in found if one is not None]
    assert not np.array_equal(*values, equal_nan=True)


def test_what_is_done_stays_done_where_a_later_pair_fails(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other, third = (subject(place, number, has_rows=False) for number in (8, 9, 10))
    whole = measuring.pair_features
    calls = iter(range(9))

    def fail_at_the_second(*arguments: object) -> object:
        if next(calls) == 1:
            raise RuntimeError("power cut")
        return whole(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(measuring, "pair_features", fail_at_the_second)
    with pytest.raises(RuntimeError, match="power cut"):
        Work((Piece(one), Piece(one, (other, third))))(place)
    evidence = Evidence(place.evidence)
    assert evidence.adapter(one) is not None
    assert evidence.pair(one, other) is not None
    assert evidence.pair(one, third) is None
