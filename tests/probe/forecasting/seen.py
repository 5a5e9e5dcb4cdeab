"""Adapters in training as they lie on disk, and a predictor fitted to planted records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch

from probe.adapter_io import read_adapter, revision_of
from probe.predictors.fitting import fit, write_predictor
from probe.predictors.predictor import Predictor
from probe.rows import CALIBRATION_FILE, Row, write_rows
from probe.telemetry.bundle import AdapterFacts, BundleRecord, Checkpoint, write_record
from probe.telemetry.recorder import energy_and_rank
from tests import tiny
from tests.planted_bank import Planting, planted_bank
from tests.probe.predictors.small import OPTIONS

NUM_STEPS = 100


@cache
def small_predictor() -> Predictor:
    """Fit once what knows early checkpoints, enough labels for a bound among them."""
    return fit(planted_bank(Planting(operators=("ta",), num_sets=12))[0], OPTIONS, date="2026-11-03")


def predictor_folder(folder: Path) -> Path:
    write_predictor(folder, small_predictor())
    return folder


def write_bundle(
    folder: Path,
    rhos: Sequence[float] = (0.02, 0.05),
    seed: int = 50,
    domain: str = "math",
    rows: Sequence[Row] = (),
    base_name: str = tiny.BASE_NAME,
    **config: object,
) -> Path:
    """Write the bundle of a training that was seen at some shares."""
    checkpoints = []
    for place, rho in enumerate(rhos):
        step = round(rho * NUM_STEPS)
        state = tiny.write_adapter(
            folder / f"step-{step:05d}", seed=seed + place, base_model_name_or_path=base_name, **config
        )
        energy, rank = energy_and_rank(read_adapter(state))
        checkpoints.append(
            Checkpoint(
                rho=rho,
                step=step,
                loss=2.0 - place,
                loss_slope=-0.1,
                update_energy=energy,
                effective_rank=rank,
                folder=state.name,
                revision=revision_of(state),
            )
        )
    folder.mkdir(parents=True, exist_ok=True)
    if rows:
        write_rows(folder / CALIBRATION_FILE, rows)
    facts = AdapterFacts(
        domain=domain,
        num_rows=24,
        response_tokens=3.0,
        refusal_fraction=0.0,
        rank=4,
        scaling=2.0,
        learning_rate=1e-3,
        num_steps=NUM_STEPS,
    )
    fractions = (0.02, 0.05, 0.1)
    write_record(
        folder,
        BundleRecord(
            adapter=facts,
            base_name=base_name,
            num_layers=tiny.NUM_LAYERS,
            seed=0,
            fractions=fractions,
            checkpoints=tuple(checkpoints),
        ),
    )
    return folder


def write_checkpoint(folder: Path, step: int | None = None, seed: int = 60, **config: object) -> Path:
    """Write a checkpoint as a Trainer does, as far as it is read."""
    tiny.write_adapter(folder, seed=seed, **config)
    if step is not None:
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "max_steps": NUM_STEPS}))
    return folder


def write_zero(folder: Path) -> Path:
    """Write an adapter of which nothing was learnt yet."""
    from safetensors.torch import load_file, save_file

    tiny.write_adapter(folder)
    weights = folder / "adapter_model.safetensors"
    save_file({k: torch.zeros_like(t) if "lora_B" in k else t for k, t in load_file(weights).items()}, weights)
    return folder
