"""What an adapter in training tells of itself, wherever it comes from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from probe.adapter_config import AdapterError
from probe.adapter_io import revision_of
from probe.forecasting.seen_adapter import (
    ForecastingError,
    NoCheckpointYet,
    NoKnownAdapter,
    read_candidate,
    read_known_bank,
)
from probe.rows import Row
from tests import tiny
from tests.probe.forecasting.seen import write_bundle, write_checkpoint

ROWS = (Row("<|im_start|>a", "b", "forced"),)


def test_a_bundle_tells_its_checkpoints_and_facts(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "mine", rows=ROWS)
    seen = read_candidate(bundle)
    assert (seen.name, seen.rho, seen.domain, seen.base_name) == ("mine", 0.05, "math", "tiny")
    assert [state.rho for state in seen.states] == [0.02, 0.05]
    assert seen.revision == revision_of(bundle / "step-00005")
    assert seen.now.metadata.learning_rate == 1e-3
    assert seen.rows == bundle / "calibration.jsonl"
    assert read_candidate(bundle, domain="code").domain == "code"


def test_rows_that_are_given_win(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "mine", rows=ROWS)
    assert read_candidate(bundle, tmp_path / "others.jsonl").rows == tmp_path / "others.jsonl"


def test_a_bundle_without_a_checkpoint_says_when_the_first_is_due(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "mine", rhos=())
    with pytest.raises(NoCheckpointYet, match=r"due at 2% of training, after step 2 of 100"):
        read_candidate(bundle)


@pytest.mark.parametrize(
    ("step", "given", "rho"), [(7, None, 0.07), (None, None, 1.0), (7, 0.5, 0.5), (0, None, 1.0), (100, None, 1.0)]
)
def test_a_checkpoint_tells_how_far_it_is(tmp_path: Path, step: int | None, given: float | None, rho: float) -> None:
    seen = read_candidate(write_checkpoint(tmp_path / "checkpoint-7", step), rho=given)
    assert (seen.rho, seen.domain, seen.rows) == (rho, None, None)
    assert (seen.now.metadata.rank, seen.now.metadata.scaling) == (4, 2.0)


@pytest.mark.parametrize("rho", [0.0, -1.0, 1.5])
def test_a_share_outside_training_is_refused(tmp_path: Path, rho: float) -> None:
    with pytest.raises(ForecastingError, match="expected the share"):
        read_candidate(write_checkpoint(tmp_path / "mine"), rho=rho)


def test_a_bundle_knows_its_own_share(tmp_path: Path) -> None:
    with pytest.raises(ForecastingError, match="says itself how far"):
        read_candidate(write_bundle(tmp_path / "mine"), rho=0.5)


def test_a_folder_that_is_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"adapter_config.json is missing"):
        read_candidate(tmp_path)


def test_a_bank_is_read_by_name_with_what_its_trainings_left(tmp_path: Path) -> None:
    tiny.write_adapter(tmp_path / "code", seed=1)
    write_bundle(tmp_path / "code" / "bundle", domain="code")
    tiny.write_adapter(tmp_path / "art", seed=2)
    shutil.copytree(tmp_path / "art", tmp_path / "copy of art")
    tiny.write_adapter(tmp_path / ".half.partial", seed=3)
    art, code = read_known_bank(tmp_path)
    assert (art.name, art.domain, [state.rho for state in art.states]) == ("art", None, [1.0])
    assert (code.name, code.domain, [state.rho for state in code.states]) == ("code", "code", [0.02, 0.05, 1.0])
    assert code.revision == revision_of(tmp_path / "code")
    assert code.now.folder == tmp_path / "code"


def test_a_folder_without_adapters_is_no_bank(tmp_path: Path) -> None:
    with pytest.raises(NoKnownAdapter, match="holds no folder"):
        read_known_bank(tmp_path)
