"""The telemetry bundle: what a training run leaves behind for forecasts. Schema version 1.

A bundle is a folder; `probe.telemetry.callback.MergeProbeCallback` writes it, `read_bundle` reads it::

    bundle.json          the record below, one JSON object
    calibration.jsonl    optional rows for the calibration pass (`probe.rows`)
    step-00012/          one PEFT adapter folder per early checkpoint (`probe.adapter_io.read_adapter`)

Fields of `bundle.json`; null is unknown, and fields that are not listed are refused:

``schema_version``
    1. It rises with every change that an older reader would misread.
``adapter``
    ``domain``, text; ``num_rows``, distinct training rows; ``response_tokens``, mean length of a training answer;
    ``refusal_fraction``, 0..1, training answers that refuse; ``rank``; ``scaling``, alpha/r or alpha/sqrt(r);
    ``learning_rate``, the peak; ``num_steps``, planned optimiser steps.
``base_name``, ``num_layers``, ``seed``
    The base model's name, its number of blocks, and the seed of the training.
``fractions``
    Shares of training (0..1, ascending) at which checkpoints were planned.
``checkpoints``
    In the order of their steps, those that were recorded so far:
    ``rho``, one of the fractions, and ``step``, the optimiser steps done, ceil(rho num_steps);
    ``loss``, nats, mean over the steps since the checkpoint before;
    ``loss_slope``, nats per percent of training, least squares over all steps up to this one;
    ``update_energy``, squared Frobenius norm of the whole update;
    ``effective_rank``, exp of the entropy of a module's energy spectrum, mean over modules weighted by energy;
    ``folder``, name of the adapter folder; ``revision``, its content hash (`probe.adapter_io.revision_of`).
``losses``
    ``steps`` and ``values``, one a step, nats, as the trainer optimises them; null was not finite. It ends at the last
    checkpoint, since what comes after must not reach a forecast.

A checkpoint's fields come from the steps up to it alone. Files appear under their names only when complete, and
`bundle.json` last, so that a training that was killed leaves a readable bundle with the checkpoints so far.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from probe.adapter_io import read_adapter, revision_of
from probe.factors import LoraUpdate
from probe.profiles import Metadata
from probe.records import MergeProbeError
from probe.replacement import replaced_file
from probe.rows import CALIBRATION_FILE, Row, read_rows
from probe.telemetry.losses import LossLog

SCHEMA_VERSION: Final = 1
BUNDLE_FILE = "bundle.json"
CHECKPOINT_FOLDER = r"^step-\d{5,}$"

_STRICT = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
Share = Annotated[float, Field(gt=0, le=1)]


class BundleError(MergeProbeError):
    """A bundle is missing or damaged, points out of its folder, or does not hold what was asked of it."""


class UnknownBundleVersion(BundleError):
    """A bundle follows another version of the schema."""


class TaskFacts(BaseModel):
    """What is known of the training data; see `probe.profiles.Metadata`."""

    model_config = _STRICT

    domain: str | None = None
    num_rows: PositiveInt | None = None
    response_tokens: PositiveFloat | None = None
    refusal_fraction: Annotated[float, Field(ge=0, le=1)] | None = None


class AdapterFacts(TaskFacts):
    """What is known of the adapter before anything is measured; see `probe.profiles.Metadata`."""

    rank: PositiveInt
    scaling: PositiveFloat
    learning_rate: Annotated[float, Field(ge=0)]
    num_steps: PositiveInt


class Checkpoint(BaseModel):
    """One early checkpoint; the module's docstring has its fields."""

    model_config = _STRICT

    rho: Share
    step: PositiveInt
    loss: float | None
    loss_slope: float | None
    update_energy: Annotated[float, Field(ge=0)]
    effective_rank: Annotated[float, Field(ge=1)] | None
    folder: Annotated[str, Field(pattern=CHECKPOINT_FOLDER)]
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class BundleRecord(BaseModel):
    """All of `bundle.json`; the module's docstring has its fields."""

    model_config = _STRICT

    schema_version: Literal[1] = SCHEMA_VERSION
    adapter: AdapterFacts
    base_name: str | None
    num_layers: PositiveInt | None
    seed: int | None
    fractions: tuple[Share, ...]
    checkpoints: tuple[Checkpoint, ...] = ()
    losses: LossLog = LossLog()

    @model_validator(mode="after")
    def _check_checkpoints(self) -> Self:
        steps = [0, *(checkpoint.step for checkpoint in self.checkpoints)]
        if steps != sorted(set(steps)) or steps[-1] > self.adapter.num_steps:
            raise ValueError(f"expected checkpoints at ascending steps up to {self.adapter.num_steps}, saw {steps[1:]}")
        strays = sorted({checkpoint.rho for checkpoint in self.checkpoints} - set(self.fractions))
        if strays:
            raise ValueError(f"expected checkpoints at the fractions {list(self.fractions)}, saw {strays}")
        return self


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A bundle that was read; tensors are read when asked for."""

    folder: Path
    record: BundleRecord

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """What was recorded so far, in the order of training."""
        return self.record.checkpoints

    @property
    def num_layers(self) -> int | None:
        """Blocks of the base model."""
        return self.record.num_layers

    def checkpoint(self, rho: float | None = None) -> Checkpoint:
        """Return the checkpoint at a fraction of training; None is the last one.

        Raises
        ------
        BundleError
            It was not recorded.
        """
        for checkpoint in reversed(self.checkpoints):
            if rho is None or checkpoint.rho == rho:
                return checkpoint
        raise BundleError(
            f"{self.folder} holds no checkpoint{'' if rho is None else f' at {rho:g}'}, only at "
            f"{[checkpoint.rho for checkpoint in self.checkpoints]} of the planned {list(self.record.fractions)}; "
            "ask for one of those, or train on. (Of fractions that fall on one step, only the largest is recorded.)"
        )

    def metadata(self, rho: float | None = None) -> Metadata:
        """Return what was known at a checkpoint; None is the last one, or the start of training if there is none.

        Raises
        ------
        BundleError
            The checkpoint was not recorded.
        """
        is_start = rho is None and not self.checkpoints
        slope = None if is_start else self.checkpoint(rho).loss_slope
        return Metadata(**self.record.adapter.model_dump(), loss_slope=slope)

    def update(self, checkpoint: Checkpoint) -> LoraUpdate:
        """Read a checkpoint's update.

        Raises
        ------
        BundleError
            The adapter folder is not the one that was recorded.
        AdapterError
            It cannot be read.
        """
        folder = _inside(self.folder, checkpoint.folder)
        seen = revision_of(folder)
        if seen != checkpoint.revision:
            raise BundleError(
                f"{folder} has revision {seen[:12]}, but {BUNDLE_FILE} recorded {checkpoint.revision[:12]}; "
                "it was changed or damaged later: restore it, or train again."
            )
        return read_adapter(folder)

    def calibration_rows(self) -> tuple[Row, ...]:
        """Read the rows for the calibration pass; empty if the bundle has none.

        Raises
        ------
        RowError
            A row is damaged.
        """
        path = self.folder / CALIBRATION_FILE
        return read_rows(path) if path.exists() else ()


def read_bundle(folder: str | os.PathLike[str]) -> Bundle:
    """Read and check a bundle's record; it may belong to a training that still runs.

    Raises
    ------
    UnknownBundleVersion
        It follows another schema than this version of MergeProbe reads.
    BundleError
        It is missing or damaged, lacks a checkpoint's folder, or names one outside itself.
    """
    bundle = Bundle(Path(folder), _read_record(Path(folder) / BUNDLE_FILE))
    for checkpoint in bundle.checkpoints:
        _inside(bundle.folder, checkpoint.folder)
    return bundle


def write_record(folder: Path, record: BundleRecord) -> None:
    """Put a record in the place of the one before, in one step."""
    with replaced_file(folder / BUNDLE_FILE) as partial:
        partial.write_text(record.model_dump_json() + "\n", encoding="utf-8")


def _read_record(path: Path) -> BundleRecord:
    try:
        text = path.read_text(encoding="utf-8")
        fields = json.loads(text)
    except FileNotFoundError as error:
        raise BundleError(f"{path} is missing; expected a folder that MergeProbeCallback wrote.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path}: expected readable JSON ({error}); restore it, or train again.") from error
    _check_version(path, fields)
    try:
        return BundleRecord.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the record"
        raise BundleError(f"{path}: {where}: {first['msg']}; restore it, or train again.") from error


def _check_version(path: Path, fields: object) -> None:
    seen = fields.get("schema_version") if isinstance(fields, dict) else None
    if type(seen) is not int:
        raise BundleError(f"{path}: expected an object with a whole 'schema_version', saw {seen!r}; is it a bundle?")
    if seen != SCHEMA_VERSION:
        raise UnknownBundleVersion(
            f"{path} follows schema version {seen}, but this MergeProbe reads version {SCHEMA_VERSION}; "
            f"{'upgrade MergeProbe' if seen > SCHEMA_VERSION else 'train again with this one'}."
        )


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BundleError(f"{path} leads out of the bundle, to {path.resolve()}; expected a folder within it.")
    if not path.is_dir():
        raise BundleError(f"{path} is missing, but {BUNDLE_FILE} names it; restore it, or train again.")
    return path
