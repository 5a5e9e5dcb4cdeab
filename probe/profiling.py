"""From adapter folders to profiles: weights alone, or with a calibration pass; each worked out once and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from probe.adapter_io import read_adapter, read_config, revision_of
from probe.calibration import (
    BaseCalibration,
    Displacements,
    calibrate,
    calibrate_base,
    displacements,
    joint_losses,
    shifts,
)
from probe.calibration.joint_loss import NUM_ROWS as LOSS_ROWS
from probe.calibration.shift import NUM_ROWS as SHIFT_ROWS
from probe.factors import LoraUpdate
from probe.features import Trajectory
from probe.layers import num_layers_of
from probe.profile_store import ProfileStore
from probe.profiles import AdapterProfile, CrossTask, JointLoss, Metadata, profile_of
from probe.reference import Reference
from probe.rows import CALIBRATION_FILE, Row, read_rows
from probe.telemetry.bundle import BundleError, read_bundle

Key = TypeVar("Key", bound=Hashable)
Progress = Callable[[str, float], None]
"""Called with what is being done and the share done, 0..1."""

MAX_ROWS = 256
"""Of a calibration set: the paper's size; more would only cost time."""


@dataclass
class Profiler:
    """Profiles adapter folders; the base model is loaded when a calibration pass first needs it, and kept.

    Parameters
    ----------
    store
        Where profiles are kept, by revision, calibration rows and base.
    base
        Returns the base model's folder; only called for calibration.
    """

    store: ProfileStore
    base: Callable[[], Path]
    device: str = "cpu"
    on_progress: Progress = lambda _doing, _share: None
    _reference: Reference | None = field(default=None, init=False)
    _latest: tuple[tuple[Row, ...], BaseCalibration] | None = field(default=None, init=False)

    def profile(self, folder: Path, rows: Path | None = None) -> AdapterProfile:
        """Return the profile of an adapter; with `rows` (JSONL), calibrated on them.

        Raises
        ------
        AdapterError, RowError, ReferenceLoadError, CalibrationError
            The folder, the rows or the base cannot be used.
        """
        key = self.key(folder, rows)
        if rows is None:
            return self.store.get(key, lambda: profile_of(read_adapter(folder), metadata=_metadata(folder)))
        return self.store.get(key, lambda: self._calibrated(folder, read_adapter(folder), read_rows(rows, MAX_ROWS)))

    def key(self, folder: Path, rows: Path | None = None) -> str:
        """Return the key under which `profile` keeps a profile: a name for all that it depends on."""
        revision = revision_of(folder)
        if rows is None:
            return revision
        return f"{revision}-{_digest(rows.read_bytes() if rows.is_file() else b'')}-{self._base_digest()}"

    def trajectory(self, bundle: Path, calibrate: bool = False) -> Trajectory:
        """Return what a training run has shown so far: a profile at every checkpoint of its bundle.

        Parameters
        ----------
        bundle
            Folder that `MergeProbeCallback` writes; the training may still run.
        calibrate
            Run the bundle's own rows through the base model at every checkpoint, and once without the adapter.

        Raises
        ------
        BundleError
            The bundle is damaged, holds no checkpoint yet, or no rows to calibrate with.
        """
        told = read_bundle(bundle)
        told.checkpoint()  # one at least
        rows = bundle / CALIBRATION_FILE if calibrate else None
        if rows is not None and not rows.is_file():
            raise BundleError(f"{bundle} holds no {CALIBRATION_FILE}; give the callback `calibration_rows`.")
        profiles = [
            replace(self.profile(bundle / checkpoint.folder, rows), metadata=told.metadata(checkpoint.rho))
            for checkpoint in told.checkpoints
        ]
        return Trajectory(tuple(checkpoint.rho for checkpoint in told.checkpoints), tuple(profiles))

    def cross_tasks(self, own: Path, others: Mapping[Key, Path], rows: Path) -> dict[Key, CrossTask]:
        """Return what each of some adapters does on the rows of the adapter in folder `own`; any key -> its folder."""
        doing = f"{own.name}'s rows beside {len(others)} adapters"
        self.on_progress(doing, 0.0)
        update, updates = read_adapter(own), {key: read_adapter(folder) for key, folder in others.items()}
        model, read = self._loaded(), read_rows(rows, MAX_ROWS)
        moved = shifts(model.model, model.tokenizer, read, update, updates)
        self.on_progress(doing, 0.5)
        losses = joint_losses(model.model, model.tokenizer, read, update, updates)
        self.on_progress(doing, 1.0)
        return {key: CrossTask(moved[key], losses[key]) for key in others}

    def displacements(self, folders: Mapping[Key, Path], rows: Path, num_rows: int = SHIFT_ROWS) -> Displacements[Key]:
        """Return how far each of several adapters moves the hidden states of the same rows; any key -> its folder."""
        doing = f"displacements of {len(folders)} adapters"
        self.on_progress(doing, 0.0)
        updates = {key: read_adapter(folder) for key, folder in folders.items()}
        model, read = self._loaded(), read_rows(rows, MAX_ROWS)
        found = displacements(model.model, model.tokenizer, read, updates, num_rows=num_rows)
        self.on_progress(doing, 1.0)
        return found

    def joint_losses(
        self, own: Path, others: Mapping[Key, Path], rows: Path, num_rows: int = LOSS_ROWS
    ) -> dict[Key, JointLoss]:
        """Return what is left of an adapter's answers to its rows beside each of some others; any key -> its folder."""
        doing = f"losses beside {len(others)} adapters"
        self.on_progress(doing, 0.0)
        updates = {key: read_adapter(folder) for key, folder in others.items()}
        model, read = self._loaded(), read_rows(rows, MAX_ROWS)
        found = joint_losses(model.model, model.tokenizer, read, read_adapter(own), updates, num_rows=num_rows)
        self.on_progress(doing, 1.0)
        return found

    def _calibrated(self, folder: Path, update: LoraUpdate, rows: tuple[Row, ...]) -> AdapterProfile:
        model = self._loaded()
        doing = f"calibrating {folder.name}"
        self.on_progress(doing, 0.0)
        found = calibrate(
            model.model,
            model.tokenizer,
            rows,
            update,
            base=self._at_base(rows),
            on_progress=lambda share: self.on_progress(doing, share),
        )
        return profile_of(update, num_layers_of(found.modules), _metadata(folder), found)

    def _at_base(self, rows: tuple[Row, ...]) -> BaseCalibration:
        """Return what the base makes of rows; kept, because the checkpoints of one adapter share theirs."""
        if self._latest is None or self._latest[0] != rows:
            model, doing = self._loaded(), "calibrating the base"
            shown = partial(self.on_progress, doing)
            self._latest = rows, calibrate_base(model.model, model.tokenizer, rows, on_progress=shown)
        return self._latest[1]

    def _loaded(self) -> Reference:
        if self._reference is None:
            self._reference = Reference(self.base(), self.device)
        return self._reference

    def _base_digest(self) -> str:
        """Tell base models apart by folder and configuration: hashing gigabytes would cost more than it saves."""
        base = self.base().resolve()
        config = base / "config.json"
        return _digest(str(base).encode() + (config.read_bytes() if config.is_file() else b""))


def _metadata(folder: Path) -> Metadata:
    """Return what the folder's own config says; what is unknown stays None."""
    config = read_config(folder)
    return Metadata(rank=config.rank, scaling=config.scaling)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
