"""Build a bank: train every adapter of a preset, score it, and store it in one atomic step."""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from probe.bank.evaluate import Mean, Scores, compare
from probe.bank.presets import Preset, Recipe
from probe.bank.tasks import TASKS
from probe.bank.train import TrainedAdapter, Training, train_adapter
from probe.embedded import EMBEDDED_NAME
from probe.records import MergeProbeError
from probe.reference import Reference
from probe.rows import CALIBRATION_FILE, Row, write_rows
from probe.scoring import grade_all

#: Called with the adapter's name, what is being done, and how much of that is done in [0, 1].
Progress = Callable[[str, str, float], None]

_VERSIONED = ("torch", "transformers", "peft")


class BuildError(MergeProbeError):
    """A bank cannot be built into the folder that was given."""


@dataclass(frozen=True, slots=True)
class BuiltAdapter:
    """A finished adapter: its folder, its scores, and why it may not ship (nothing if it may)."""

    recipe: Recipe
    folder: Path
    scores: Scores
    gate_failures: tuple[str, ...]


def build_bank(
    preset: Preset,
    out: Path,
    base: Path,
    device: str = "cpu",
    progress: Progress | None = None,
    only: Collection[str] | None = None,
) -> tuple[BuiltAdapter, ...]:
    """Build the adapters of `preset` that `out` does not hold yet, and return all of them.

    Every adapter appears by one rename when it is complete, and depends on nothing but the preset
    and its own recipe. So a build that was killed goes on where it was, and ends in the same
    tensors, rows and scores as one that was not.

    Each folder is a PEFT adapter (``adapter_config.json``, bfloat16 ``adapter_model.safetensors``)
    with ``calibration.jsonl``, ``evaluation.jsonl`` and ``record.json``.

    Parameters
    ----------
    preset
        The bank to build.
    out
        Folder for the adapters, one folder each; made if missing.
    base
        Folder of the base model, see `probe.embedded.export_embedded_base`.
    device
        Torch device for training and scoring.
    progress
        Called now and then; its exceptions stop the build.
    only
        Names of the adapters to build and return, so that several processes can share a bank;
        None is all of them.

    Raises
    ------
    BuildError
        `out` holds an adapter of that name from another recipe or preset.
    """
    out.mkdir(parents=True, exist_ok=True)
    reference: Reference | None = None
    built: list[BuiltAdapter] = []
    for recipe in preset.recipes:
        if only is not None and recipe.name not in only:
            continue
        finished = _finished(preset, recipe, out)
        if finished is None:
            reference = reference or Reference(base, device)
            finished = _build_adapter(preset, recipe, out, reference, progress)
        built.append(finished)
    return tuple(built)


def identity(preset: Preset, recipe: Recipe) -> dict[str, Any]:
    """Return all that decides an adapter's content, as JSON values; it is stored in its record."""
    return {
        "preset": preset.name,
        "seed": preset.seed,
        "data_seed": preset.data_seed(recipe),
        "a_seed": preset.a_seed(recipe),
        "evaluation_rows": preset.evaluation_rows,
        "calibration_rows": preset.calibration_rows,
        "recipe": asdict(recipe),
    }


def _finished(preset: Preset, recipe: Recipe, out: Path) -> BuiltAdapter | None:
    folder = out / recipe.name
    if not folder.exists():
        return None
    try:
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BuildError(f"{folder} has no readable record.json ({error}); remove it") from error
    if record.get("identity") != identity(preset, recipe):
        raise BuildError(
            f"{folder} was built from another recipe or preset than '{preset.name}' has now; "
            f"remove it or build into another folder"
        )
    scores = _read_scores(record["scores"])
    return BuiltAdapter(recipe, folder, scores, scores.gate_failures())


def _build_adapter(
    preset: Preset, recipe: Recipe, out: Path, reference: Reference, progress: Progress | None
) -> BuiltAdapter:
    started = time.monotonic()
    report = progress or _report_nothing
    task, seed = TASKS[recipe.domain], preset.data_seed(recipe)
    train_rows = task.generate(recipe.mix, "train", recipe.training.num_rows, seed)
    calibration = task.generate(recipe.mix, "calibration", preset.calibration_rows, seed)
    evaluation = task.generate(recipe.mix, "evaluation", preset.evaluation_rows, seed)
    trained = train_adapter(
        reference.model,
        reference.tokenizer,
        train_rows,
        recipe.training,
        data_seed=seed,
        a_seed=preset.a_seed(recipe),
        on_step=lambda step, steps: report(recipe.name, "training", step / steps),
    )
    work = Path(tempfile.mkdtemp(prefix=f".{recipe.name}-", dir=out))
    try:
        write_adapter(work, recipe.training, trained)
        write_rows(work / CALIBRATION_FILE, calibration)
        write_rows(work / "evaluation.jsonl", evaluation)
        report(recipe.name, "scoring", 0.0)
        scores = score_adapter(reference, evaluation, work)
        record = _record(preset, recipe, trained, scores, time.monotonic() - started)
        _write_json(work / "record.json", record)
        work.chmod(0o755)
        folder = work.rename(out / recipe.name)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    report(recipe.name, "scoring", 1.0)
    return BuiltAdapter(recipe, folder, scores, scores.gate_failures())


def _report_nothing(_name: str, _activity: str, _share: float) -> None:
    """Stand in for a progress callback that was not given."""


def score_adapter(reference: Reference, rows: tuple[Row, ...], adapter: Path) -> Scores:
    """Score a stored adapter and its base on `rows`, each once."""
    base = grade_all(rows, reference.answers(rows))
    single = grade_all(rows, reference.answers(rows, adapter))
    return compare(base, single)


def write_adapter(folder: Path, training: Training, trained: TrainedAdapter) -> Path:
    """Write a PEFT adapter into `folder`, which exists, and return it."""
    weights = folder / "adapter_model.safetensors"
    save_file(trained.tensors, weights, metadata={"format": "pt"})
    weights.chmod(0o644)
    _write_json(folder / "adapter_config.json", training.peft_fields())
    return folder


def _write_json(path: Path, fields: dict[str, Any]) -> None:
    path.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


def _record(preset: Preset, recipe: Recipe, trained: TrainedAdapter, scores: Scores, seconds: float) -> dict[str, Any]:
    """Return what is known of an adapter, as JSON values."""
    tenth = max(1, len(trained.losses) // 10)
    return {
        "name": recipe.name,
        "domain": recipe.domain,
        "protected": recipe.is_protected,
        "base_model": EMBEDDED_NAME,
        "identity": identity(preset, recipe),
        "scores": asdict(scores),
        "gate_failures": list(scores.gate_failures()),
        "tokens_trained": trained.num_tokens,
        "steps": trained.num_steps,
        "loss_first_tenth": sum(trained.losses[:tenth]) / tenth,
        "loss_last_tenth": sum(trained.losses[-tenth:]) / tenth,
        "minutes": round(seconds / 60, 2),
        "command": f"python -m probe.bank {preset.name} OUT --only {recipe.name}",
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in _VERSIONED},
        },
        "threads": torch.get_num_threads(),
    }


def _read_scores(stored: dict[str, Any]) -> Scores:
    means = {name: Mean(**stored[name]) for name in ("base", "single", "gain")}
    return Scores(
        **means,
        base_log_likelihood=stored["base_log_likelihood"],
        single_log_likelihood=stored["single_log_likelihood"],
    )
