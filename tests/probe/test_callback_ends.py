"""However a recorded training ends, its bundle is readable; however it begins, its bundle is right."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback

from probe.rows import Row
from probe.telemetry.bundle import BundleError, read_bundle
from probe.telemetry.callback import MergeProbeCallback
from probe.telemetry.step_losses import StepLosses
from tests.tiny_training import (
    DiesAtStep,
    Snapshots,
    StopsAtStep,
    assert_equals_tensors,
    assert_untouched,
    lora_tensors,
    tiny_lora,
    trainer_of,
)

ROWS = (Row("<|im_start|>a", "I cannot say", "forced"), Row("<|im_start|>b", "yes", "forced"))

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT's, as it wraps


def test_nothing_is_left_on_the_trainer_after_training(tmp_path: Path) -> None:
    trainer = trainer_of(tiny_lora(), tmp_path, MergeProbeCallback(tmp_path / "out", (0.1, 1.0)))
    trainer.train()
    assert_untouched(trainer)
    trainer = trainer_of(tiny_lora(), tmp_path, StopsAtStep(1), MergeProbeCallback(tmp_path / "out", (1.0,)))
    trainer.train()
    assert_untouched(trainer)


def test_after_the_last_checkpoint_the_trainer_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = []
    watch = StepLosses.watch
    monkeypatch.setattr(StepLosses, "watch", lambda self, trainer: (watched.append(trainer), watch(self, trainer))[1])
    trainer_of(tiny_lora(), tmp_path, MergeProbeCallback(tmp_path / "out", (0.1,))).train()
    assert len(watched) == 2


def die(*_: Any, **__: Any) -> None:
    raise InterruptedError("device lost")


def break_forward(trainer: Trainer) -> None:
    trainer.model.get_input_embeddings().register_forward_pre_hook(die)


def break_backward(trainer: Trainer) -> None:
    next(iter(lora_tensors(trainer.model).values())).register_hook(die)


def break_optimiser(trainer: Trainer) -> None:
    trainer.create_optimizer().step = die


@pytest.mark.parametrize("damage", [break_forward, break_backward, break_optimiser])
def test_nothing_is_left_on_the_trainer_when_a_step_dies(tmp_path: Path, damage: Callable[[Trainer], None]) -> None:
    trainer = trainer_of(tiny_lora(), tmp_path, MergeProbeCallback(tmp_path / "out"))
    damage(trainer)
    with pytest.raises(InterruptedError):
        trainer.train()
    assert_untouched(trainer)


def test_what_was_left_by_a_death_before_the_step_goes_when_training_starts_again(tmp_path: Path) -> None:
    class DiesAsItBegins(TrainerCallback):
        on_step_begin = die

    killer = DiesAsItBegins()
    trainer = trainer_of(tiny_lora(), tmp_path, MergeProbeCallback(tmp_path / "out"), killer)
    with pytest.raises(InterruptedError):
        trainer.train()
    trainer.remove_callback(killer)
    trainer.train()
    assert_untouched(trainer)
    assert [c.step for c in read_bundle(tmp_path / "out").checkpoints] == [1, 2]


def test_a_training_step_that_the_user_replaced_is_used_and_kept(tmp_path: Path) -> None:
    trainer = trainer_of(tiny_lora(), tmp_path, MergeProbeCallback(tmp_path / "out", (0.5,)))
    own = trainer.training_step
    calls = []

    def counting(*args: Any, **kwargs: Any) -> Tensor:
        calls.append(args)
        return own(*args, **kwargs)

    trainer.training_step = counting
    trainer.train()
    assert trainer.training_step is counting
    assert len(calls) == 20


@pytest.mark.parametrize(("dies_at", "num_checkpoints"), [(1, 0), (3, 1), (4, 2), (9, 2)])
def test_a_training_that_is_killed_leaves_the_checkpoints_so_far(
    tmp_path: Path, dies_at: int, num_checkpoints: int
) -> None:
    seen = Snapshots()
    callback = MergeProbeCallback(tmp_path / "out", (0.1, 0.2, 0.5), domain="math")
    with pytest.raises(InterruptedError):
        trainer_of(tiny_lora(), tmp_path, seen, callback, DiesAtStep(dies_at)).train()
    bundle = read_bundle(tmp_path / "out")
    assert len(bundle.checkpoints) == num_checkpoints
    assert bundle.metadata().domain == "math"
    for checkpoint in bundle.checkpoints:
        assert_equals_tensors(bundle.update(checkpoint), seen.tensors[checkpoint.step], scale=2.0)


def test_resumed_training_ends_in_the_same_bundle(tmp_path: Path) -> None:
    whole, parts, fractions = tmp_path / "whole", tmp_path / "parts", (0.1, 0.4, 0.5)
    saving: dict[str, Any] = {"save_strategy": "steps", "save_steps": 5}
    trainer_of(tiny_lora(), tmp_path, MergeProbeCallback(whole, fractions)).train()
    with pytest.raises(InterruptedError):
        trainer_of(tiny_lora(), tmp_path, MergeProbeCallback(parts, fractions), DiesAtStep(9), **saving).train()
    # Step 8 was recorded after the state that training goes on from: it is recorded again.
    assert [c.step for c in read_bundle(parts).checkpoints] == [2, 8]
    resumed = trainer_of(tiny_lora(), tmp_path, MergeProbeCallback(parts, fractions), **saving)
    resumed.train(resume_from_checkpoint=True)
    assert read_bundle(parts).record == read_bundle(whole).record
    for checkpoint in read_bundle(parts).checkpoints:
        read_bundle(parts).update(checkpoint)


def test_training_that_starts_anew_replaces_the_bundle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = tmp_path / "out"
    trainer_of(tiny_lora(), tmp_path, MergeProbeCallback(out, (0.5,), calibration_rows=ROWS)).train()
    with caplog.at_level(logging.WARNING, "probe.telemetry.recorder"):
        trainer_of(tiny_lora(), tmp_path, MergeProbeCallback(out, (0.1,))).train()
    assert "checkpoints ['step-00010'] of an earlier training are removed" in caplog.text
    assert sorted(path.name for path in out.iterdir()) == ["bundle.json", "step-00002"]
    assert read_bundle(out).calibration_rows() == ()


def test_checkpoints_before_a_resumption_without_bundle_are_missed_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer_of(tiny_lora(), tmp_path, StopsAtStep(5), save_strategy="steps", save_steps=5).train()
    resumed = trainer_of(tiny_lora(), tmp_path, MergeProbeCallback(tmp_path / "out", (0.1, 0.5)))
    with caplog.at_level(logging.WARNING, "probe.telemetry.recorder"):
        resumed.train(resume_from_checkpoint=True)
    assert "lacks the checkpoints at steps [2]" in caplog.text
    bundle = read_bundle(tmp_path / "out")
    assert [c.step for c in bundle.checkpoints] == [10]
    assert bundle.record.losses.steps == (6, 7, 8, 9, 10)


def test_resuming_into_a_damaged_bundle_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    trainer_of(tiny_lora(), tmp_path, StopsAtStep(5), save_strategy="steps", save_steps=5).train()
    out.mkdir()
    (out / "bundle.json").write_text("{")
    with pytest.raises(BundleError, match="readable JSON"):
        trainer_of(tiny_lora(), tmp_path, MergeProbeCallback(out)).train(resume_from_checkpoint=True)


def test_training_that_stops_early_leaves_its_losses(tmp_path: Path) -> None:
    callback = MergeProbeCallback(tmp_path / "out", (0.1, 0.5))
    trainer_of(tiny_lora(), tmp_path, callback, StopsAtStep(7)).train()
    assert read_bundle(tmp_path / "out").record.losses.steps == tuple(range(1, 8))


def test_a_disk_that_fails_does_not_end_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class DiskFails(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            blocked = tmp_path / "out" / ".step-00002.partial"
            blocked.unlink(missing_ok=True)
            if state.global_step < 2:
                blocked.touch()

    callbacks = MergeProbeCallback(tmp_path / "out", (0.1, 0.5)), DiskFails()
    with caplog.at_level(logging.WARNING, "probe.telemetry.callback"):
        assert trainer_of(tiny_lora(), tmp_path, *callbacks).train().global_step == 20
    assert "the checkpoint at step 2 was not recorded" in caplog.text
    (checkpoint,) = read_bundle(tmp_path / "out").checkpoints
    values = read_bundle(tmp_path / "out").record.losses.values
    assert checkpoint.loss == pytest.approx(np.mean(np.asarray(values)))


def test_a_diverged_training_is_said_and_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_lora()
    with torch.no_grad():
        next(iter(lora_tensors(model).values())).fill_(math.nan)
    with caplog.at_level(logging.WARNING, "probe.telemetry.callback"):
        trainer_of(model, tmp_path, MergeProbeCallback(tmp_path / "out", (0.1,)), max_steps=10).train()
    assert "diverged" in caplog.text
    bundle = read_bundle(tmp_path / "out")
    assert bundle.checkpoints == ()
    assert json.loads((tmp_path / "out" / "bundle.json").read_text())["checkpoints"] == []
