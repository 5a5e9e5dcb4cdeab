"""A bundle is read back as it was written, or refused by name."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from probe.adapter_io import AdapterError, revision_of, write_adapter
from probe.factors import LoraFactor, LoraUpdate, norm
from probe.profiles import Metadata
from probe.replacement import replaced_file, replaced_folder
from probe.rows import Row, RowError, write_rows
from probe.telemetry.bundle import (
    AdapterFacts,
    Bundle,
    BundleError,
    BundleRecord,
    Checkpoint,
    UnknownBundleVersion,
    read_bundle,
    write_record,
)
from probe.telemetry.losses import LossLog
from probe.telemetry.recorder import checkpoint_steps, energy_and_rank
from tests.tiny import random_update

FACTS = AdapterFacts(domain="math", num_rows=400, rank=4, scaling=2.0, learning_rate=1e-3, num_steps=100)
LOSSES = LossLog(steps=(1, 2, 3, 4, 5), values=(2.0, 1.5, None, 1.0, 0.5))


def checkpoint_of(folder: Path, step: int, rho: float, **fields: Any) -> Checkpoint:
    """Write an adapter into the bundle, and describe it."""
    name = f"step-{step:05d}"
    write_adapter(folder / name, random_update(seed=step), "tiny")
    known: dict[str, Any] = {
        "loss": 1.25,
        "loss_slope": -0.5,
        "update_energy": 3.0,
        "effective_rank": 2.5,
        "revision": revision_of(folder / name),
    }
    return Checkpoint(rho=rho, step=step, folder=name, **(known | fields))


@pytest.fixture
def record(tmp_path: Path) -> BundleRecord:
    """A record of two checkpoints of three, written into `tmp_path`."""
    first = checkpoint_of(tmp_path, 2, 0.02, loss_slope=None)
    written = BundleRecord(
        adapter=FACTS,
        base_name="tiny",
        num_layers=2,
        seed=7,
        fractions=(0.02, 0.05, 0.10),
        checkpoints=(first, checkpoint_of(tmp_path, 5, 0.05)),
        losses=LOSSES,
    )
    write_record(tmp_path, written)
    return written


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path, record: BundleRecord) -> None:
    bundle = read_bundle(tmp_path)
    assert bundle.record == record
    assert bundle.checkpoints == record.checkpoints
    assert bundle.num_layers == 2


def test_metadata_at_a_checkpoint_has_that_checkpoints_slope(tmp_path: Path, record: BundleRecord) -> None:
    bundle = read_bundle(tmp_path)
    facts = {"domain": "math", "num_rows": 400, "rank": 4, "scaling": 2.0, "learning_rate": 1e-3, "num_steps": 100}
    assert bundle.metadata(0.02) == Metadata(**facts)
    assert bundle.metadata(0.05) == Metadata(**facts, loss_slope=-0.5)
    assert bundle.metadata() == bundle.metadata(0.05)


def test_before_the_first_checkpoint_metadata_has_no_slope(tmp_path: Path, record: BundleRecord) -> None:
    bundle = Bundle(tmp_path, record.model_copy(update={"checkpoints": ()}))
    assert bundle.metadata().loss_slope is None
    with pytest.raises(BundleError, match="holds no checkpoint, only at"):
        bundle.checkpoint()


def test_a_checkpoint_that_was_not_recorded_is_refused(tmp_path: Path, record: BundleRecord) -> None:
    with pytest.raises(BundleError, match=r"no checkpoint at 0.1, only at \[0.02, 0.05\]"):
        read_bundle(tmp_path).metadata(0.1)


def test_a_checkpoint_is_the_adapter_that_was_saved(tmp_path: Path, record: BundleRecord) -> None:
    bundle = read_bundle(tmp_path)
    read = bundle.update(bundle.checkpoint(0.05)).factors
    for module, factor in random_update(seed=5).factors.items():
        assert torch.equal(read[module].B, factor.B.bfloat16().float())


def test_an_adapter_that_was_exchanged_is_refused(tmp_path: Path, record: BundleRecord) -> None:
    write_adapter(tmp_path / "step-00005", random_update(seed=99), "tiny")
    bundle = read_bundle(tmp_path)
    with pytest.raises(BundleError, match="changed or damaged"):
        bundle.update(bundle.checkpoint(0.05))


def test_an_adapter_that_is_cut_short_is_refused(tmp_path: Path, record: BundleRecord) -> None:
    tensors = tmp_path / "step-00005" / "adapter_model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-10])
    bundle = read_bundle(tmp_path)
    with pytest.raises(AdapterError, match="not a readable safetensors"):
        bundle.update(bundle.checkpoint(0.05))


def test_calibration_rows_are_optional(tmp_path: Path, record: BundleRecord) -> None:
    rows = (Row("<|im_start|>a", "b", "forced"),)
    assert read_bundle(tmp_path).calibration_rows() == ()
    write_rows(tmp_path / "calibration.jsonl", rows)
    assert read_bundle(tmp_path).calibration_rows() == rows
    (tmp_path / "calibration.jsonl").write_text("{")
    with pytest.raises(RowError):
        read_bundle(tmp_path).calibration_rows()


Damage = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: r.pop("adapter"), "adapter: Field required"),
        (lambda r: r["adapter"].update(rank=0), r"adapter\.rank"),
        (lambda r: r["adapter"].update(rank="4"), r"adapter\.rank"),
        (lambda r: r["adapter"].update(final_score=0.9), r"adapter\.final_score"),
        (lambda r: r.update(fractions=[0.0]), r"fractions\.0"),
        (lambda r: r["checkpoints"][0].update(step=5), "ascending steps"),
        (lambda r: r["checkpoints"][1].update(step=101), "up to 100"),
        (lambda r: r["checkpoints"][1].update(rho=0.3), r"saw \[0\.3\]"),
        (lambda r: r["checkpoints"][0].update(folder="../step-00002"), r"checkpoints\.0\.folder"),
        (lambda r: r["checkpoints"][0].update(folder="/etc"), r"checkpoints\.0\.folder"),
        (lambda r: r["checkpoints"][0].update(folder="step-00002\n"), r"checkpoints\.0\.folder"),
        (lambda r: r["checkpoints"][0].update(revision="abc"), r"checkpoints\.0\.revision"),
        (lambda r: r["checkpoints"][0].update(update_energy=math.nan), r"checkpoints\.0\.update_energy"),
        (lambda r: r["losses"].update(steps=[1, 1, 2, 3, 4]), "ascend from 1"),
        (lambda r: r["losses"].update(steps=[0, 1, 2, 3, 4]), "ascend from 1"),
        (lambda r: r["losses"].update(steps=[1]), "as many steps as values"),
    ],
)
def test_a_damaged_record_is_refused_with_the_field(
    tmp_path: Path, record: BundleRecord, damage: Damage, message: str
) -> None:
    fields = json.loads((tmp_path / "bundle.json").read_text())
    damage(fields)
    (tmp_path / "bundle.json").write_text(json.dumps(fields))
    with pytest.raises(BundleError, match=message) as caught:
        read_bundle(tmp_path)
    assert str(tmp_path / "bundle.json") in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"schema_version": true}', '{"schema_version": "1"}'])
def test_what_is_no_bundle_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match=r"readable JSON|schema_version"):
        read_bundle(tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BundleError, match="readable JSON"):
        read_bundle(tmp_path)


def test_a_missing_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"bundle\.json is missing"):
        read_bundle(tmp_path / "nowhere")


@pytest.mark.parametrize(("version", "advice"), [(2, "upgrade MergeProbe"), (0, "train again")])
def test_another_schema_version_is_refused_whatever_else_it_holds(tmp_path: Path, version: int, advice: str) -> None:
    (tmp_path / "bundle.json").write_text(json.dumps({"schema_version": version, "new": []}))
    with pytest.raises(UnknownBundleVersion, match=rf"version {version}, .* reads version 1; {advice}"):
        read_bundle(tmp_path)


def test_a_missing_checkpoint_folder_is_refused(tmp_path: Path, record: BundleRecord) -> None:
    shutil.rmtree(tmp_path / "step-00002")
    with pytest.raises(BundleError, match="step-00002 is missing"):
        read_bundle(tmp_path)


def test_a_link_out_of_the_bundle_is_refused(tmp_path: Path, record: BundleRecord) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "bundle.json").rename(inside / "bundle.json")
    (tmp_path / "step-00005").rename(inside / "step-00005")
    (inside / "step-00002").symlink_to(tmp_path / "step-00002")
    with pytest.raises(BundleError, match="leads out of the bundle"):
        read_bundle(inside)


def test_a_write_that_dies_leaves_what_was_there(tmp_path: Path, record: BundleRecord) -> None:
    def write_half(path: Path) -> None:
        path.write_text('{"schema')
        raise InterruptedError

    with pytest.raises(InterruptedError), replaced_file(tmp_path / "bundle.json") as partial:
        write_half(partial)
    with pytest.raises(InterruptedError), replaced_folder(tmp_path / "step-00005") as folder:
        write_half(folder / "adapter_config.json")
    bundle = read_bundle(tmp_path)
    assert bundle.record == record
    bundle.update(bundle.checkpoint())


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "step-00001").mkdir()
    (tmp_path / "step-00001" / "old").touch()
    (tmp_path / ".step-00001.partial").mkdir()
    (tmp_path / ".step-00001.partial" / "of a killed run").touch()
    with replaced_folder(tmp_path / "step-00001") as partial:
        (partial / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["step-00001", "new"]


def test_the_slope_is_in_nats_per_percent_of_training() -> None:
    log = LossLog(steps=tuple(range(1, 11)), values=tuple(3.0 - 0.2 * step for step in range(1, 11)))
    assert log.slope(up_to=10, num_steps=100) == pytest.approx(-0.2)
    assert log.slope(up_to=10, num_steps=1000) == pytest.approx(-2.0)


def test_losses_that_are_not_finite_count_for_nothing() -> None:
    log = LossLog().extended([(1, 2.0), (2, math.nan), (3, math.inf), (4, 1.0)])
    assert log.values == (2.0, None, None, 1.0)
    assert log.mean(after=0, up_to=4) == 1.5
    assert log.mean(after=1, up_to=3) is None
    assert log.slope(up_to=3, num_steps=100) is None
    assert log.slope(up_to=4, num_steps=100) == pytest.approx(-1 / 3)


def test_a_log_may_not_go_back() -> None:
    with pytest.raises(ValidationError, match="ascend"):
        LOSSES.extended([(5, 1.0)])


@given(before=st.lists(st.floats(-10, 10), min_size=2, max_size=8), after=st.lists(st.floats(-10, 10), max_size=8))
def test_what_is_read_off_a_log_depends_on_no_later_loss(before: list[float], after: list[float]) -> None:
    num_known = len(before)
    whole = LossLog().extended(list(enumerate(before + after, start=1)))
    known = LossLog().extended(list(enumerate(before, start=1)))
    assert whole.up_to(num_known) == known
    assert whole.slope(num_known, 100) == known.slope(num_known, 100)
    assert whole.mean(0, num_known) == known.mean(0, num_known)


@given(st.integers(1, 100_000))
def test_checkpoints_lie_within_training_and_no_earlier_than_planned(num_steps: int) -> None:
    steps = checkpoint_steps((0.02, 0.05, 0.10), num_steps)
    assert list(steps) == sorted(steps)
    assert max(steps.values()) == 0.10
    for step, rho in steps.items():
        assert 1 <= step <= num_steps
        assert step - 1 < rho * num_steps + 1e-6
        assert step >= rho * num_steps - 1e-6


@pytest.mark.parametrize(("rho", "num_steps", "step"), [(0.07, 100, 7), (0.1, 30, 3), (0.1, 31, 4), (1.0, 9, 9)])
def test_a_checkpoint_step_is_the_exact_ceiling(rho: float, num_steps: int, step: int) -> None:
    assert list(checkpoint_steps((rho,), num_steps)) == [step]


def test_energy_and_rank_are_those_of_the_dense_updates() -> None:
    update = random_update(seed=1, ranks={"model.layers.0.self_attn.q_proj": 4, "model.layers.1.mlp.down_proj": 1})
    energy, rank = energy_and_rank(update)
    assert energy == pytest.approx(norm(update) ** 2)
    expected, total = 0.0, 0.0
    for factor in update.factors.values():
        spectrum = torch.linalg.svdvals(factor.B.double() @ factor.A.double())[: factor.rank] ** 2
        share = spectrum / spectrum.sum()
        expected += float(spectrum.sum() * torch.exp(-(share * share.log()).sum()))
        total += float(spectrum.sum())
    assert rank == pytest.approx(expected / total)


def test_energy_and_rank_do_not_depend_on_the_gauge() -> None:
    update = random_update(seed=3)
    mixing = torch.randn(4, 4, generator=torch.Generator().manual_seed(0)) + 3 * torch.eye(4)
    mixed = LoraUpdate({n: LoraFactor(f.B @ mixing, torch.linalg.inv(mixing) @ f.A) for n, f in update.factors.items()})
    assert energy_and_rank(mixed) == pytest.approx(energy_and_rank(update), rel=1e-4)


def test_modules_without_an_update_do_not_count() -> None:
    update = random_update(seed=3, ranks={"model.layers.0.self_attn.q_proj": 4})
    silent = LoraFactor(torch.zeros(32, 4), torch.randn(4, 32))
    with_silent = LoraUpdate({**update.factors, "model.layers.1.self_attn.q_proj": silent})
    assert energy_and_rank(with_silent) == pytest.approx(energy_and_rank(update))
    assert energy_and_rank(LoraUpdate({"m": silent})) == (0.0, None)
