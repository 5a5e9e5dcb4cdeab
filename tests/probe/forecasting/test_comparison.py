"""Signals of an adapter beside known ones: the same as direct computation, and no more than may be compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from probe.adapter_io import read_adapter
from probe.bank.labelling.plan import LabelPlan
from probe.features import Trajectory, adapter_features, pair_features
from probe.forecasting import comparison
from probe.forecasting.comparison import Comparer, Comparison, NothingLearntYet, compare
from probe.forecasting.partners import OtherBase
from probe.forecasting.seen_adapter import NoKnownAdapter, SeenAdapter, read_candidate, read_known_bank
from probe.profile_store import ProfileStore
from probe.profiles import profile_of
from probe.profiling import Profiler
from probe.rows import Row, write_rows
from tests import tiny
from tests.probe.forecasting.seen import write_bundle, write_checkpoint, write_zero
from tests.probe.test_reference import write_character_base


def rows(name: str) -> tuple[Row, ...]:
    return tuple(Row(f"<|im_start|>{name} {number}<|im_end|>", f"{number}", "forced") for number in range(6))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank of three, of which one has no rows, a bundle, and the base of all."""
    folder = tmp_path_factory.mktemp("early")
    write_character_base(folder / "base")
    for seed, name in enumerate(("art", "code", "poems")):
        adapter = tiny.write_adapter(folder / "bank" / name, seed=seed)
        if name != "poems":
            write_rows(adapter / "calibration.jsonl", rows(name))
    write_bundle(folder / "mine", rows=rows("mine"))
    return folder


def profiler(folder: Path) -> Profiler:
    return Profiler(ProfileStore(folder / "profiles"), lambda: folder / "base")


def share_unknown(found: Comparison, other: SeenAdapter) -> float:
    return float(np.isnan(found.pairs[found.candidate, other.revision].features.forth.values).mean())


def equal(first: np.ndarray, second: np.ndarray) -> bool:
    return bool(np.array_equal(first, second, equal_nan=True))


def test_weights_alone_are_compared_as_features_are_made(folder: Path) -> None:
    mine, known = read_candidate(folder / "mine"), read_known_bank(folder / "bank")
    found = compare(mine, known, profiler(folder), calibrates=False)
    own = Trajectory(
        (0.02, 0.05),
        tuple(profile_of(read_adapter(state.folder), metadata=state.metadata) for state in mine.states),
    )
    art = Trajectory((1.0,), (profile_of(read_adapter(folder / "bank" / "art"), metadata=known[0].now.metadata),))
    assert found.candidate == mine.revision
    assert found.others == tuple(one.revision for one in known)
    assert equal(found.adapters[mine.revision].evidence.values, adapter_features(own).values)
    assert found.adapters[mine.revision].evidence.rho == 0.05
    pair = found.pairs[mine.revision, known[0].revision]
    expected = pair_features(own, art)
    for part in ("forth", "back", "symmetric"):
        assert equal(getattr(pair.features, part).values, getattr(expected, part).values)
    assert [len(one) for one in pair.damage] == [0, 0]
    assert not pair.conflict.is_measured
    assert found.adapters[mine.revision].rank == 4
    assert len(found.adapters[mine.revision].modules) == 4


def test_rows_of_both_are_run_through_the_base_where_both_have_some(folder: Path) -> None:
    mine, known = read_candidate(folder / "mine"), read_known_bank(folder / "bank")
    found = compare(mine, known, profiler(folder), calibrates=True)
    light = compare(mine, known, profiler(folder), calibrates=False)
    gaps, before = ({one.name: share_unknown(some, one) for one in known} for some in (found, light))
    assert gaps["art"] < before["art"]
    assert gaps["code"] < before["code"]
    assert gaps["poems"] == before["poems"]
    code = found.pairs[mine.revision, known[1].revision]
    assert [len(one) for one in code.damage] == [2, 2]
    assert code.conflict.is_measured
    assert "layer" in code.conflict.sentence


def test_forth_is_what_the_first_does_on_the_rows_of_the_second(folder: Path) -> None:
    mine, (art, *_) = read_candidate(folder / "mine"), read_known_bank(folder / "bank")
    work = profiler(folder)
    forth, back = Comparer(work, True).cross_tasks(mine, [art])[art.revision]
    assert art.rows is not None
    assert mine.rows is not None
    expected = work.cross_tasks(art.now.folder, {"mine": mine.now.folder}, art.rows)["mine"]
    other_way = work.cross_tasks(mine.now.folder, {"art": art.now.folder}, mine.rows)["art"]
    assert (forth.shift.of_own, forth.loss) == (expected.shift.of_own, expected.loss)
    assert (back.shift.of_own, back.loss) == (other_way.shift.of_own, other_way.loss)
    assert forth.shift.of_own != back.shift.of_own
    assert forth.loss != back.loss


def test_of_a_large_bank_only_the_closest_are_calibrated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The closest is one whose update is the candidate's own."""
    monkeypatch.setattr(comparison, "MAX_CALIBRATED", 1)
    mine, known = read_candidate(folder / "mine"), read_known_bank(folder / "bank")
    work = Comparer(profiler(folder), True)
    twin = replace(mine, name="twin", revision="twin")
    own = work.trajectory(mine, False)
    assert work.to_calibrate(mine, own, [*known, twin]) == [twin]


def test_long_row_files_are_cut_to_what_labels_were_made_with(folder: Path, tmp_path: Path) -> None:
    many = tmp_path / "many.jsonl"
    write_rows(many, [Row(f"<|im_start|>{number}", "x", "forced") for number in range(300)])
    mine = replace(read_candidate(folder / "mine"), rows=many)
    calibration = Comparer(profiler(folder), True).trajectory(mine, True).now.calibration
    assert calibration is not None
    assert calibration.num_rows == LabelPlan().calibration_rows


@pytest.mark.parametrize(
    ("change", "told"),
    [({"is_protected": True}, "protected"), ({"base_name": "another/base"}, "of another base model, another/base")],
)
def test_whom_nothing_may_be_merged_with_is_left_out(folder: Path, change: dict[str, object], told: str) -> None:
    mine, (art, *others) = read_candidate(folder / "mine"), read_known_bank(folder / "bank")
    found = compare(mine, [replace(art, **change), *others], profiler(folder), calibrates=False)
    assert set(found.left_out) == {"art"}
    assert told in found.left_out["art"]
    assert art.revision not in found.adapters


def test_the_adapter_itself_is_no_partner(folder: Path) -> None:
    known = read_known_bank(folder / "bank")
    found = compare(known[0], known, profiler(folder), calibrates=False)
    assert found.left_out == {"art": "it is this very adapter"}
    with pytest.raises(NoKnownAdapter, match="it is this very adapter"):
        compare(known[0], known[:1], profiler(folder), calibrates=False)


def test_a_bank_of_another_base_is_named(folder: Path, tmp_path: Path) -> None:
    mine = read_candidate(write_bundle(tmp_path / "mine", base_name="org/large"))
    with pytest.raises(OtherBase, match=r"'org/large'.*tiny"):
        compare(mine, read_known_bank(folder / "bank"), profiler(folder), calibrates=False)


def test_modules_of_another_shape_are_another_base(folder: Path, tmp_path: Path) -> None:
    wide = tiny.write_adapter(tmp_path / "wide")
    from safetensors.torch import load_file, save_file

    tensors = load_file(wide / "adapter_model.safetensors")
    wider = {key: tensor.repeat(1, 2) if "lora_A" in key else tensor for key, tensor in tensors.items()}
    save_file(wider, wide / "adapter_model.safetensors")
    with pytest.raises(OtherBase, match=r"q_proj' is \(32, 64\) in wide, but \(32, 32\) in art"):
        compare(read_candidate(wide), read_known_bank(folder / "bank"), profiler(tmp_path), calibrates=False)


def test_an_update_that_is_still_zero_is_not_forecast(folder: Path, tmp_path: Path) -> None:
    zero = read_candidate(write_zero(tmp_path / "zero"), rho=0.02)
    with pytest.raises(NothingLearntYet, match="still zero at 2% of training"):
        compare(zero, read_known_bank(folder / "bank"), profiler(tmp_path), calibrates=False)


def test_progress_counts_the_known_adapters(folder: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    candidate: SeenAdapter = read_candidate(write_checkpoint(folder / "checkpoint-3", 3))
    compare(
        candidate,
        read_known_bank(folder / "bank"),
        profiler(folder),
        calibrates=True,
        on_progress=lambda *step: seen.append(step),
    )
    assert seen == [("comparing", done, 3) for done in range(4)]
