"""Forecasts at the checkpoints of a training: what the Trainer's logger shows, and that nothing of them disturbs it."""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Trainer, TrainerCallback

from probe.telemetry.bundle import read_bundle
from probe.telemetry.callback import MergeProbeCallback
from tests.tiny_training import arguments, logged_losses, lora_tensors, rows_of_tokens, tiny_lora, trainer_of

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT's, as it wraps

EVERY_STEP = {"logging_strategy": "steps", "logging_steps": 1}


class Backend(TrainerCallback):
    """Keeps what a logging backend of `report_to` would be given."""

    def __init__(self) -> None:
        self.logged: list[tuple[int, dict[str, float]]] = []

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.logged.append((state.global_step, dict(kwargs["logs"])))


def gains(logged: list[tuple[int, dict[str, float]]]) -> dict[int, float]:
    return {step: logs["mergeprobe/gain"] for step, logs in logged if "mergeprobe/gain" in logs}


def test_figures_of_every_checkpoint_reach_history_and_backends(tmp_path: Path) -> None:
    """Beside the losses of the same steps, which are logged all the same."""

    def forecast(bundle: Path) -> dict[str, float]:
        return {"gain": float(read_bundle(bundle).checkpoint().step)}

    backend = Backend()
    callback = MergeProbeCallback(tmp_path / "out", (0.1, 0.5), forecast=forecast)
    trainer = trainer_of(tiny_lora(), tmp_path, backend, callback, **EVERY_STEP)
    trainer.train()
    assert gains(backend.logged) == {2: 2.0, 10: 10.0}
    history = [(entry["step"], entry) for entry in trainer.state.log_history]
    assert gains(history) == {2: 2.0, 10: 10.0}
    assert len(logged_losses(trainer)) == 20


@pytest.mark.parametrize("error", [ValueError("no such bank"), OSError("disk")])
def test_an_error_in_a_forecast_stops_nothing_and_warns_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def forecast(bundle: Path) -> dict[str, float]:
        raise error

    callback = MergeProbeCallback(tmp_path / "out", (0.1, 0.5), forecast=forecast)
    trainer = trainer_of(tiny_lora(), tmp_path, callback)
    with caplog.at_level(logging.INFO, "probe.telemetry.forecast_log"):
        trainer.train()
    told = [record.levelname for record in caplog.records if str(error) in record.getMessage()]
    assert told == ["WARNING", "INFO"]
    assert trainer.state.global_step == 20
    assert len(read_bundle(tmp_path / "out").checkpoints) == 2


def test_training_is_the_same_with_a_forecast_that_draws_random_numbers(tmp_path: Path) -> None:
    def forecast(bundle: Path) -> dict[str, float]:
        return {"drawn": random.random() + np.random.uniform() + float(torch.rand(()))}

    def train(*callbacks: TrainerCallback) -> tuple[dict[str, torch.Tensor], list[float], tuple[float, ...]]:
        trainer = trainer_of(tiny_lora(lora_dropout=0.1), tmp_path, *callbacks, **EVERY_STEP)
        trainer.train()
        return lora_tensors(trainer.model), logged_losses(trainer), (random.random(), np.random.uniform())

    tensors, losses, drawn = train()
    with_tensors, with_losses, with_drawn = train(MergeProbeCallback(tmp_path / "out", (0.1,), forecast=forecast))
    assert (with_losses, with_drawn) == (losses, drawn)
    assert all(torch.equal(tensors[name], with_tensors[name]) for name in tensors)


def test_a_trainer_that_gathers_for_its_own_lines_is_not_made_to_write_one(tmp_path: Path) -> None:
    """As those of TRL do: their `log` averages what came since the last line."""
    lines = []

    class Gathering(Trainer):
        def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
            lines.append(logs)
            super().log(logs, *args, **kwargs)

    callback = MergeProbeCallback(tmp_path / "out", (0.1,), forecast=lambda bundle: {"gain": 1.0})
    trainer = Gathering(
        model=tiny_lora(), args=arguments(tmp_path, **EVERY_STEP), train_dataset=rows_of_tokens(), callbacks=[callback]
    )
    trainer.train()
    assert "mergeprobe/gain" in trainer.state.log_history[1]
    assert not any("mergeprobe/gain" in line for line in lines)


def test_a_checkpoint_that_was_not_recorded_is_not_forecast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise OSError("full")

    asked: list[Path] = []
    monkeypatch.setattr("probe.telemetry.recorder.BundleRecorder.add_checkpoint", fail)
    callback = MergeProbeCallback(tmp_path / "out", (0.1,), forecast=lambda bundle: asked.append(bundle) or {})
    trainer_of(tiny_lora(), tmp_path, callback).train()
    assert asked == []
