"""The folder of a built adapter: its files, its record, and whether it is what a recipe says."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from probe.adapter_io import CONFIG_FILE, TENSOR_FILE
from probe.bank.evaluate import Mean, Scores
from probe.bank.presets import Preset, Recipe
from probe.bank.training import TrainedAdapter, Training
from probe.embedded import EMBEDDED_NAME
from probe.records import MergeProbeError

RECORD_FILE = "record.json"
EVALUATION_FILE = "evaluation.jsonl"
BUNDLE_FOLDER = "bundle"

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


def identity(preset: Preset, recipe: Recipe) -> dict[str, Any]:
    """Return all that decides an adapter's content, as JSON values; it is stored in its record."""
    return {
        "data_seed": preset.data_seed(recipe),
        "a_seed": preset.a_seed(recipe),
        "evaluation_seed": preset.evaluation_seed(recipe),
        "evaluation_rows": preset.evaluation_rows,
        "calibration_rows": preset.calibration_rows,
        "recipe": asdict(recipe),
    }


def read_built(preset: Preset, recipe: Recipe, out: Path) -> BuiltAdapter | None:
    """Return the adapter if `out` holds it already.

    Raises
    ------
    BuildError
        `out` holds a folder of that name that is damaged, or from another recipe or preset.
    """
    folder = out / recipe.name
    if not folder.exists():
        return None
    try:
        record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BuildError(f"{folder} has no readable {RECORD_FILE} ({error}); remove it") from error
    if record.get("identity") != identity(preset, recipe):
        raise BuildError(
            f"{folder} was built from another recipe or preset than '{preset.name}' has now; "
            f"remove it or build into another folder"
        )
    return BuiltAdapter(recipe, folder, _read_scores(record["scores"]), tuple(record["gate_failures"]))


def gate_failures(recipe: Recipe, scores: Scores) -> tuple[str, ...]:
    """Return why an adapter may not ship; nothing if it may, or is in the bank to be weak."""
    return scores.gate_failures() if recipe.is_gated else ()


def write_adapter(folder: Path, training: Training, trained: TrainedAdapter) -> Path:
    """Write a PEFT adapter into `folder`, which exists, and return it."""
    weights = folder / TENSOR_FILE
    save_file(trained.tensors, weights, metadata={"format": "pt"})
    weights.chmod(0o644)
    write_json(folder / CONFIG_FILE, training.peft_fields())
    return folder


def write_json(path: Path, fields: Mapping[str, Any]) -> None:
    """Write a JSON object for people to read."""
    path.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


def training_facts(trained: TrainedAdapter, device: str, seconds: float) -> dict[str, Any]:
    """Return how a training went, as JSON values."""
    tenth = max(1, len(trained.losses) // 10)
    first, last = trained.losses[:tenth], trained.losses[-tenth:]
    return {
        "device": device,
        "tokens_trained": trained.num_tokens,
        "steps": trained.num_steps,
        "loss_first_tenth": sum(first) / tenth if first else None,
        "loss_last_tenth": sum(last) / tenth if last else None,
        "minutes": round(seconds / 60, 2),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in _VERSIONED},
        },
        "threads": torch.get_num_threads(),
    }


def record_of(
    preset: Preset, recipe: Recipe, facts: Mapping[str, Any], scores: Scores, num_evaluated: int, has_bundle: bool
) -> dict[str, Any]:
    """Return what is known of an adapter, as JSON values; `facts` are those of its training."""
    return {
        "name": recipe.name,
        "domain": recipe.domain,
        "mix": recipe.mix,
        "method": recipe.training.method,
        "group": recipe.group,
        "protected": recipe.is_protected,
        "base_model": EMBEDDED_NAME,
        "precision": recipe.training.precision,
        "identity": identity(preset, recipe),
        "scores": asdict(scores),
        "evaluated_rows": num_evaluated,
        "gate_failures": list(gate_failures(recipe, scores)),
        "has_bundle": has_bundle,
        "command": f"python -m probe.bank {preset.name} OUT --only {recipe.name}",
        **facts,
    }


def _read_scores(stored: Mapping[str, Any]) -> Scores:
    means = {name: Mean(**stored[name]) for name in ("base", "single", "gain")}
    return Scores(
        **means,
        base_log_likelihood=stored["base_log_likelihood"],
        single_log_likelihood=stored["single_log_likelihood"],
    )
