"""Build a bank: train every adapter of a preset, score it, and store it in one atomic step."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import probe.bank
from probe.adapter_io import CONFIG_FILE, TENSOR_FILE
from probe.bank.adapter_folder import (
    BUNDLE_FOLDER,
    EVALUATION_FILE,
    RECORD_FILE,
    BuildError,
    BuiltAdapter,
    identity,
    read_built,
    record_of,
    training_facts,
    write_adapter,
    write_json,
)
from probe.bank.claims import claimed
from probe.bank.evaluate import Scores, compare
from probe.bank.material import Material, evaluation_rows, material_of, method_inputs
from probe.bank.presets import Preset, Recipe
from probe.bank.progress import OnProgress, Progress, TokenClock
from probe.bank.training import BundlePlan, train_adapter
from probe.encoding import encode_row
from probe.reference import Reference
from probe.replacement import replaced_folder
from probe.rows import CALIBRATION_FILE, Outcome, Row, write_rows
from probe.scoring import grade_all

__all__ = ["BuildError", "BuiltAdapter", "build_bank", "identity", "write_adapter"]

SHIPPED = Path(probe.bank.__file__).parent / "data"
"""Where the package keeps the adapters of its shipped presets, one folder a preset."""

_TRAINING_FACTS = ("tokens_trained", "steps", "loss_first_tenth", "loss_last_tenth", "minutes", "versions", "threads")
_WAIT_SECONDS = 0.5


def build_bank(
    preset: Preset,
    out: Path,
    base: Path,
    device: str = "cpu",
    on_progress: OnProgress | None = None,
    only: Collection[str] | None = None,
    num_workers: int = 1,
) -> tuple[BuiltAdapter, ...]:
    """Build the adapters of `preset` that `out` does not hold yet, and return all of them.

    Every adapter appears by one rename when it is complete, and depends on nothing but the preset
    and its own recipe. So a build that was killed goes on where it was, and ends in the same
    tensors, rows and scores as one that was not. Several processes may build into one folder at once: each takes what
    no other has taken, and returns when all is there.

    Each folder is a PEFT adapter (``adapter_config.json``, bfloat16 ``adapter_model.safetensors``)
    with ``calibration.jsonl``, ``evaluation.jsonl``, ``record.json`` and, where it was trained here, early checkpoints
    in ``bundle`` (`probe.telemetry.bundle`).

    Parameters
    ----------
    preset
        The bank to build.
    out
        Folder for the adapters, one folder each; made if missing.
    base
        Folder of the base model, see `probe.embedded.export_embedded_base`.
    device
        Torch device for training and scoring: ``cpu``, or ``cuda`` for the first one that is visible.
    on_progress
        Called now and then; its exceptions stop the build.
    only
        Names of the adapters to build and return; None is all of them.
    num_workers
        Processes that share the work, for the forecast of the time left.

    Raises
    ------
    BuildError
        `out` holds an adapter of that name from another recipe or preset, or lacks one that another one needs.
    PresetError
        `only` names an adapter that the preset does not have.
    """
    out.mkdir(parents=True, exist_ok=True)
    wanted = _wanted(preset, out, only)
    builder = _Builder(preset, out, base, device, on_progress, num_workers)
    while waiting := [recipe for recipe in wanted if read_built(preset, recipe, out) is None]:
        if not builder.build_one(waiting):
            time.sleep(_WAIT_SECONDS)
    return tuple(built for recipe in wanted if (built := read_built(preset, recipe, out)) is not None)


def score_adapter(reference: Reference, rows: Sequence[Row], base: Sequence[Outcome], adapter: Path) -> Scores:
    """Score a stored adapter on `rows` beside what the base scores there."""
    return compare(base, grade_all(rows, reference.answers(rows, adapter)))


def _wanted(preset: Preset, out: Path, only: Collection[str] | None) -> tuple[Recipe, ...]:
    names = {preset.recipe(name).name for name in only} if only is not None else None
    wanted = tuple(recipe for recipe in preset.recipes if names is None or recipe.name in names)
    for recipe in wanted:
        needed = recipe.norms_of
        if needed is None or names is None or needed in names:
            continue
        if read_built(preset, preset.recipe(needed), out) is None:
            raise BuildError(f"'{recipe.name}' takes its norms from '{needed}', which {out} lacks; build that one too")
    return wanted


class _Builder:
    """One process that builds."""

    def __init__(
        self,
        preset: Preset,
        out: Path,
        base: Path,
        device: str,
        on_progress: OnProgress | None,
        num_workers: int,
    ) -> None:
        self._preset, self._out, self._base, self._device = preset, out, base, device
        self._on_progress, self._num_workers = on_progress, num_workers
        self._clock = TokenClock({})
        self._is_timed = False
        self._base_outcomes: dict[int, tuple[Outcome, ...]] = {}

    @cached_property
    def _reference(self) -> Reference:
        return Reference(self._base, self._device)

    def build_one(self, waiting: Sequence[Recipe]) -> bool:
        """Build the first adapter that nobody else is building; False if there is none yet."""
        self._time(waiting)
        return any(self._is_ready(recipe) and self._claim_and_build(recipe) for recipe in waiting)

    def _is_ready(self, recipe: Recipe) -> bool:
        needed = recipe.norms_of
        return needed is None or read_built(self._preset, self._preset.recipe(needed), self._out) is not None

    def _claim_and_build(self, recipe: Recipe) -> bool:
        with claimed(self._out, recipe.name) as is_mine:
            if not is_mine:
                return False
            # Another process may have finished it between the look and the claim.
            if read_built(self._preset, recipe, self._out) is None:
                self._build(recipe)
                self._clock.finish(recipe.name)
            return True

    def _build(self, recipe: Recipe) -> None:
        with replaced_folder(self._out / recipe.name) as work:
            if recipe.shipped_with is not None:
                facts = self._copy(recipe, work)
                evaluation = evaluation_rows(self._preset, recipe)
            else:
                material = material_of(self._preset, recipe)
                facts = self._train(recipe, material, work)
                evaluation = material.evaluation
            write_rows(work / EVALUATION_FILE, evaluation)
            self._report(recipe, "scoring", 0.0)
            scored = evaluation[: self._preset.scored_rows]
            scores = score_adapter(self._reference, scored, self._base_on(recipe, scored), work)
            has_bundle = (work / BUNDLE_FOLDER).exists()
            record = record_of(self._preset, recipe, facts, scores, len(scored), has_bundle)
            write_json(work / RECORD_FILE, record)
        self._report(recipe, "scoring", 1.0)

    def _train(self, recipe: Recipe, material: Material, work: Path) -> Mapping[str, Any]:
        started = time.monotonic()
        trained = train_adapter(
            self._reference.model,
            self._reference.tokenizer,
            material.train,
            recipe.training,
            data_seed=self._preset.data_seed(recipe),
            a_seed=self._preset.a_seed(recipe),
            on_step=lambda step, steps: self._report(recipe, "training", step / steps),
            inputs=method_inputs(self._preset, recipe, material, self._out),
            bundle=BundlePlan(work / BUNDLE_FOLDER, recipe.domain, material.calibration),
        )
        write_adapter(work, recipe.training, trained)
        write_rows(work / CALIBRATION_FILE, material.calibration)
        return training_facts(trained, self._device, time.monotonic() - started)

    def _copy(self, recipe: Recipe, work: Path) -> Mapping[str, Any]:
        """Copy a shipped adapter; it has no early checkpoints, and its facts are those of its own training."""
        shipped = SHIPPED / str(recipe.shipped_with) / recipe.name
        for name in (CONFIG_FILE, TENSOR_FILE, CALIBRATION_FILE):
            shutil.copyfile(shipped / name, work / name)
        record = json.loads((shipped / RECORD_FILE).read_text(encoding="utf-8"))
        return {"shipped_with": recipe.shipped_with, "device": "cpu"} | {name: record[name] for name in _TRAINING_FACTS}

    def _base_on(self, recipe: Recipe, rows: Sequence[Row]) -> tuple[Outcome, ...]:
        """Score the base, once for all adapters that share their evaluation rows."""
        seed = self._preset.evaluation_seed(recipe)
        if seed not in self._base_outcomes:
            self._base_outcomes[seed] = grade_all(rows, self._reference.answers(rows))
        return self._base_outcomes[seed]

    def _time(self, waiting: Sequence[Recipe]) -> None:
        """Start the clock at the first call, and tell it what others have finished since."""
        if not self._is_timed and self._on_progress is not None:
            self._clock = TokenClock({recipe.name: self._num_tokens(recipe) for recipe in waiting}, self._num_workers)
        self._is_timed = True
        self._clock.keep({recipe.name for recipe in waiting})

    def _num_tokens(self, recipe: Recipe) -> int:
        if recipe.shipped_with is not None or recipe.training.method == "random":
            return 0
        rows = material_of(self._preset, recipe).train
        tokens = sum(encode_row(self._reference.tokenizer, row).num_tokens for row in rows)
        # Answers of replay are not known yet; they are about as long as those of the task.
        share = 2.0 if recipe.training.method == "dpo" else 1.0 + recipe.training.replay
        return round(tokens * recipe.training.num_epochs * share)

    def _report(self, recipe: Recipe, activity: str, share: float) -> None:
        if self._on_progress is not None:
            done = share if activity == "training" else 1.0
            left = self._clock.seconds_left(recipe.name, done)
            self._on_progress(Progress(recipe.name, activity, share, left))
