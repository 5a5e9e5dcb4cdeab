"""Records one training run into its bundle: which steps are checkpoints, what is measured there, and resumption."""

# ruff: noqa: N806 - B and A are what every LoRA paper calls these matrices

from __future__ import annotations

import logging
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from probe.adapter_io import read_adapter, revision_of
from probe.factors import LoraFactor, LoraUpdate
from probe.profiles import effective_rank
from probe.replacement import replaced_file, replaced_folder
from probe.rows import CALIBRATION_FILE, Row, write_rows
from probe.telemetry.bundle import (
    BUNDLE_FILE,
    CHECKPOINT_FOLDER,
    BundleRecord,
    Checkpoint,
    read_bundle,
    write_record,
)
from probe.telemetry.trained_lora import TrainedLora

logger = logging.getLogger(__name__)


class BundleRecorder:
    """Writes the bundle of one training run.

    Parameters
    ----------
    folder
        The bundle; made if missing.
    lora
        The adapter in training.
    record
        Facts and planned fractions; its checkpoints and losses are filled in as training goes on.
    """

    def __init__(self, folder: Path, lora: TrainedLora, record: BundleRecord) -> None:
        self._folder = folder
        self._lora = lora
        self._record = record
        self._plan = checkpoint_steps(record.fractions, record.adapter.num_steps)

    @property
    def record(self) -> BundleRecord:
        """What `bundle.json` holds once `write` was called."""
        return self._record

    def begin(self, from_step: int, calibration_rows: Sequence[Row]) -> None:
        """Write the bundle as it is before step `from_step` + 1: what an earlier run knew of those steps is kept.

        Raises
        ------
        BundleError
            Training is resumed, and the bundle of its first part is damaged.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        is_replaced = (self._folder / BUNDLE_FILE).exists()
        if is_replaced and from_step > 0:
            self._keep(read_bundle(self._folder).record, from_step)
        self._write_rows(calibration_rows)
        self.write()
        if is_replaced:
            self._remove_strays()
        self._report_plan(from_step)

    def is_done(self, step: int) -> bool:
        """Say whether nothing is left to record after `step` steps."""
        return step >= max(self._plan)

    def add_losses(self, losses: Sequence[tuple[int, float]]) -> None:
        """Append losses of further steps."""
        self._update(losses=self._record.losses.extended(losses))

    def is_checkpoint(self, step: int) -> bool:
        """Say whether a checkpoint is planned after `step` steps."""
        return step in self._plan

    def add_checkpoint(self, step: int) -> None:
        """Save the adapter as it is after `step` steps, with its telemetry, and write the bundle.

        Raises
        ------
        AdapterError
            Training has diverged: the factors are not finite.
        OSError
            The files cannot be written.
        """
        path = self._folder / f"step-{step:05d}"
        with replaced_folder(path) as partial:
            self._lora.save(partial)
            energy, rank = energy_and_rank(read_adapter(partial))
            revision = revision_of(partial)
        losses, before = self._record.losses, self._record.checkpoints
        checkpoint = Checkpoint(
            rho=self._plan[step],
            step=step,
            loss=losses.mean(after=before[-1].step if before else 0, up_to=step),
            loss_slope=losses.slope(step, self._record.adapter.num_steps),
            update_energy=energy,
            effective_rank=rank,
            folder=path.name,
            revision=revision,
        )
        self._update(checkpoints=(*before, checkpoint))
        self.write()

    def write(self) -> None:
        """Write `bundle.json` as of now."""
        write_record(self._folder, self._record)

    def _update(self, **changes: object) -> None:
        self._record = self._record.model_copy(update=changes)

    def _keep(self, earlier: BundleRecord, from_step: int) -> None:
        """Take over what an earlier run recorded up to `from_step`, as far as it was on the same plan."""
        kept = tuple(c for c in earlier.checkpoints if c.step <= from_step and self._plan.get(c.step) == c.rho)
        self._update(checkpoints=kept, losses=earlier.losses.up_to(from_step))

    def _write_rows(self, rows: Sequence[Row]) -> None:
        path = self._folder / CALIBRATION_FILE
        if not rows:
            path.unlink(missing_ok=True)
            return
        with replaced_file(path) as partial:
            write_rows(partial, rows)

    def _remove_strays(self) -> None:
        """Remove checkpoints that the record no longer names: those of a run that this one replaces."""
        named = {checkpoint.folder for checkpoint in self._record.checkpoints}
        found = {path.name for path in self._folder.iterdir() if re.fullmatch(CHECKPOINT_FOLDER, path.name)}
        if strays := sorted(found - named):
            logger.warning("%s: checkpoints %s of an earlier training are removed.", self._folder, strays)
        for name in strays:
            shutil.rmtree(self._folder / name)

    def _report_plan(self, from_step: int) -> None:
        merged = sorted(set(self._record.fractions) - set(self._plan.values()))
        if merged:
            logger.warning(
                "%s: training is so short (%d steps) that the fractions %s fall on the step of a larger one; "
                "that one is recorded.",
                self._folder,
                self._record.adapter.num_steps,
                merged,
            )
        held = {checkpoint.step for checkpoint in self._record.checkpoints}
        missed = [step for step in self._plan if step <= from_step and step not in held]
        if missed:
            logger.warning(
                "%s: training resumes after step %d, and the bundle lacks the checkpoints at steps %s; "
                "they cannot be recorded any more.",
                self._folder,
                from_step,
                missed,
            )


def checkpoint_steps(fractions: Sequence[float], num_steps: int) -> Mapping[int, float]:
    """Return step -> fraction, step = ceil(rho num_steps), ascending.

    Of fractions that fall on one step the largest counts, since it is the nearest to the share that is really done.
    """
    # Rounded first, because 0.07 * 100 is a little more than 7.
    return {max(1, math.ceil(round(rho * num_steps, 6))): rho for rho in sorted(fractions)}


def energy_and_rank(update: LoraUpdate) -> tuple[float, float | None]:
    """Return an update's energy and its effective rank, the mean over modules weighted by their energies.

    Returns
    -------
    energy
        Squared Frobenius norm, >= 0.
    rank
        1 to the largest rank; None for a zero update.
    """
    spectra = [energy_spectrum(factor) for factor in update.factors.values()]
    energies = [float(spectrum.sum()) for spectrum in spectra]
    total = math.fsum(energies)
    if total == 0:
        return 0.0, None
    parts = (e * effective_rank(spectrum.sqrt()) for e, spectrum in zip(energies, spectra, strict=True) if e > 0)
    # At rank 1 rounding may leave the entropy a little below 0.
    return total, max(1.0, math.fsum(parts) / total)


def energy_spectrum(factor: LoraFactor) -> Tensor:
    """Return the squared singular values of B A, (r,), float64, ascending.

    They are the eigenvalues of R^T (A A^T) R with R R^T = B^T B, so that nothing but two Gram products touches the
    long axes; what that loses of the weakest directions is below the rounding of their share in the energy.
    """
    B, A = factor.B.double(), factor.A.double()
    values, vectors = torch.linalg.eigh(B.T @ B)
    root = vectors * values.clamp(min=0).sqrt()
    spectrum: Tensor = torch.linalg.eigvalsh(root.T @ (A @ A.T) @ root)
    return spectrum.clamp(min=0)
