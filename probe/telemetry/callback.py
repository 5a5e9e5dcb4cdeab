"""A Trainer callback that records early checkpoints and telemetry into a bundle."""

# ruff: noqa: ARG002 - the Trainer calls every event with everything

from __future__ import annotations

import logging
import os
from collections.abc import Sequence, Sized
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from transformers import TrainerCallback

from probe.encoding import encode_row
from probe.records import MergeProbeError
from probe.rows import Row
from probe.scoring.refusal import is_refusal
from probe.telemetry.bundle import AdapterFacts, BundleRecord, TaskFacts
from probe.telemetry.forecast_log import Forecast, ForecastLog
from probe.telemetry.recorder import BundleRecorder
from probe.telemetry.step_losses import StepLosses, calling_trainer
from probe.telemetry.trained_lora import TrainedLora, trained_lora

FRACTIONS = (0.02, 0.05, 0.10)
"""Shares of training at which the paper's forecasts are made (arXiv 2606.19549, Section 3)."""

logger = logging.getLogger(__name__)


class CallbackError(MergeProbeError):
    """The callback cannot do what it was asked to: its options are wrong, or no Trainer calls it."""


class MergeProbeCallback(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Records the adapter early in training, so that its merges can be forecast, in a `probe.telemetry.bundle`.

    It works with every Trainer, those of TRL too, and changes nothing in training: it draws no random number, moves no
    tensor and waits for the device only at checkpoints and saves. After the last checkpoint it does nothing more. Under
    several processes the first one writes, and records its own losses. A checkpoint that cannot be written is logged
    and left out; training goes on.

    Parameters
    ----------
    out
        Folder of the bundle; what an earlier training wrote there is replaced, or continued if training is resumed.
    fractions
        Shares of training, in (0, 1], after which a checkpoint is recorded: step ceil(rho max_steps).
    domain
        What the adapter is for, such as ``math``; free text.
    num_rows
        Distinct training rows; None takes the length of the training set, where it has one.
    response_tokens
        Mean tokens of a training answer, end token included; None takes the mean over `calibration_rows`.
    refusal_fraction
        Share of training answers that refuse, 0..1; None takes that of `calibration_rows`.
    calibration_rows
        Rows like those trained on, kept in the bundle for a later calibration pass.
    forecast
        Called with the bundle's folder after each checkpoint that was recorded, such as a
        `probe.forecasting.forecaster.Forecaster`; the figures that it returns go to the Trainer's logger. Training
        waits for it. An error in it is logged, and training goes on.

    Raises
    ------
    CallbackError
        The fractions are none, or not in (0, 1], or a fact is out of its range.

    Notes
    -----
    When training begins it raises `TrainedModelError` (no PEFT model, several active adapters, sharded parameters),
    `AdapterError` (an unsupported kind of adapter), `BundleError` (resumed into a damaged bundle) or `CallbackError`
    (called by no Trainer, or into a folder that cannot be written).
    """

    def __init__(
        self,
        out: str | os.PathLike[str],
        fractions: Sequence[float] = FRACTIONS,
        *,
        domain: str | None = None,
        num_rows: int | None = None,
        response_tokens: float | None = None,
        refusal_fraction: float | None = None,
        calibration_rows: Sequence[Row] = (),
        forecast: Forecast | None = None,
    ) -> None:
        if not fractions or not all(0 < rho <= 1 for rho in fractions):
            raise CallbackError(
                f"fractions are {list(fractions)}, expected one or more in (0, 1], such as {FRACTIONS}."
            )
        self._out = Path(out)
        self._fractions = tuple(sorted({float(rho) for rho in fractions}))
        try:
            self._given = TaskFacts(
                domain=domain,
                num_rows=num_rows,
                response_tokens=response_tokens,
                refusal_fraction=refusal_fraction,
            )
        except ValidationError as error:
            first = error.errors()[0]
            raise CallbackError(
                f"{first['loc'][0]} is {first['input']!r}: {first['msg']}; correct or omit it."
            ) from error
        self._rows = tuple(calibration_rows)
        self._forecasts = None if forecast is None else ForecastLog(forecast)
        self._losses = StepLosses()
        self._recorder: BundleRecorder | None = None
        self._trainer: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check the model, and begin or continue the bundle."""
        self._losses.unwatch()
        self._recorder, self._trainer, self._losses = None, None, StepLosses()
        lora = trained_lora(kwargs["model"])
        if not state.is_world_process_zero:
            return
        trainer = calling_trainer()
        if trainer is None:
            raise CallbackError("No transformers Trainer calls this callback; give it to one in `callbacks`.")
        facts = self._facts(lora, args, state, kwargs.get("train_dataloader"), kwargs.get("processing_class"))
        recorder = BundleRecorder(self._out, lora, self._record(lora, facts, args))
        try:
            recorder.begin(state.global_step, self._rows)
        except OSError as error:
            raise CallbackError(f"{self._out} cannot be written ({error}); name a folder that can.") from error
        if not recorder.is_done(state.global_step):
            self._recorder, self._trainer = recorder, trainer

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Watch the step's first micro-batch."""
        if self._trainer is not None:
            self._losses.watch(self._trainer)

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Watch the step's next micro-batch."""
        if self._trainer is not None:
            self._losses.watch(self._trainer)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the step's loss; record a checkpoint where one is planned."""
        if self._recorder is None:
            return
        self._losses.end_step(state.global_step)
        if self._recorder.is_checkpoint(state.global_step):
            is_recorded = self._add_checkpoint(self._recorder, state.global_step)
            if is_recorded and self._forecasts is not None:
                self._forecasts.write(self._trainer, control, self._out)
        if self._recorder.is_done(state.global_step):
            self._recorder = self._trainer = None

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the losses so far, from where training may be resumed."""
        self._write_losses()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the losses of a training that ends before its last checkpoint was due, and let go of it."""
        self._losses.unwatch()
        self._write_losses()
        self._recorder = self._trainer = None

    def _add_checkpoint(self, recorder: BundleRecorder, step: int) -> bool:
        """Record a checkpoint, and tell whether that worked."""
        recorder.add_losses(self._losses.drain())
        try:
            recorder.add_checkpoint(step)
        except (OSError, MergeProbeError) as error:
            logger.warning("%s: the checkpoint at step %d was not recorded: %s", self._out, step, error)
            return False
        return True

    def _write_losses(self) -> None:
        if self._recorder is None:
            return
        self._recorder.add_losses(self._losses.drain())
        try:
            self._recorder.write()
        except OSError as error:
            logger.warning("%s: the losses were not written: %s", self._out, error)

    def _record(self, lora: TrainedLora, facts: AdapterFacts, args: Any) -> BundleRecord:
        return BundleRecord(
            adapter=facts,
            base_name=lora.config.base_name,
            num_layers=lora.num_layers,
            seed=args.seed,
            fractions=self._fractions,
        )

    def _facts(self, lora: TrainedLora, args: Any, state: Any, dataloader: Any, processor: Any) -> AdapterFacts:
        measured = {
            "num_rows": _length(getattr(dataloader, "dataset", None)),
            "response_tokens": _response_tokens(self._rows, processor),
            "refusal_fraction": _mean([is_refusal(row.answer) for row in self._rows]),
        }
        return AdapterFacts(
            **(measured | self._given.model_dump(exclude_none=True)),
            rank=lora.config.rank,
            scaling=lora.config.scaling,
            learning_rate=args.learning_rate,
            num_steps=state.max_steps,
        )


def _length(dataset: object) -> int | None:
    return (len(dataset) or None) if isinstance(dataset, Sized) else None


def _response_tokens(rows: Sequence[Row], processor: Any) -> float | None:
    # A processor of several modalities keeps its tokenizer inside.
    tokenizer = getattr(processor, "tokenizer", processor)
    return None if tokenizer is None else _mean([len(encode_row(tokenizer, row).answer_ids) for row in rows])


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
