"""The rows of a recipe: what it trains on, what it is measured on, and what its method needs beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from probe.adapter_io import read_adapter
from probe.bank.preferences import rejected_answers
from probe.bank.presets import Preset, Recipe
from probe.bank.tasks import Split, TaskError, task_of
from probe.bank.training import MethodInputs
from probe.bank.training.replay import replay_prompts
from probe.factors import LoraUpdate, norm
from probe.rows import Row

_NEIGHBOUR_ROWS = 100
"""Rows of each other task that the OSRM start looks at: the paper's number."""


@dataclass(frozen=True, slots=True)
class Material:
    """Rows of one adapter; splits share no problem (`probe.bank.tasks.Task.generate`)."""

    train: tuple[Row, ...]
    calibration: tuple[Row, ...]
    evaluation: tuple[Row, ...]


def material_of(preset: Preset, recipe: Recipe) -> Material:
    """Return the adapter's rows; the same arguments give the same rows.

    Raises
    ------
    TaskError
        The task or mix is unknown, or has fewer training rows than the recipe asks for.
    """
    seed = preset.data_seed(recipe)
    return Material(
        train=task_of(recipe.domain).generate(recipe.mix, "train", recipe.training.num_rows, seed),
        calibration=most_rows(recipe.domain, recipe.mix, "calibration", preset.calibration_rows, seed),
        evaluation=evaluation_rows(preset, recipe),
    )


def evaluation_rows(preset: Preset, recipe: Recipe) -> tuple[Row, ...]:
    """Return the adapter's evaluation rows: as many as the preset wants, or as its task has."""
    seed = preset.evaluation_seed(recipe)
    return most_rows(recipe.domain, recipe.mix, "evaluation", preset.evaluation_rows, seed)


@cache
def most_rows(domain: str, mix: str, split: Split, wanted: int, seed: int) -> tuple[Row, ...]:
    """Return `wanted` rows, or the most that the task can give, found by halving.

    Raises
    ------
    TaskError
        It cannot give one.
    """
    task = task_of(domain)
    enough, too_many, count = 0, wanted + 1, wanted
    rows: tuple[Row, ...] = ()
    while too_many - enough > 1:
        try:
            rows = task.generate(mix, split, count, seed)
            enough = count
        except TaskError:
            if count == 1:
                raise
            too_many = count
        count = (enough + too_many) // 2
    return rows


def method_inputs(preset: Preset, recipe: Recipe, material: Material, bank: Path) -> MethodInputs:
    """Return what the recipe's method needs beside rows.

    Parameters
    ----------
    bank
        Folder of the adapters, for one whose norms are asked for; it is finished.
    """
    method = recipe.training.method
    num_general = round(recipe.training.replay * len(material.train))
    return MethodInputs(
        replay=replay_prompts(num_general, preset.data_seed(recipe)),
        rejected=rejected_answers(material.train, preset.data_seed(recipe)) if method == "dpo" else (),
        neighbours=_neighbours(preset, recipe) if method == "osrm" else (),
        norms=_module_norms(bank / recipe.norms_of) if recipe.norms_of is not None else {},
    )


def _neighbours(preset: Preset, recipe: Recipe) -> tuple[Row, ...]:
    """Return calibration rows of the group's adapters of other domains."""
    others = [one for one in preset.recipes if one.group == recipe.group and one.domain != recipe.domain]
    return tuple(
        row
        for other in others
        for row in most_rows(other.domain, other.mix, "calibration", _NEIGHBOUR_ROWS, preset.data_seed(other))
    )


def _module_norms(adapter: Path) -> Mapping[str, float]:
    """Return base module name -> Frobenius norm of an adapter's update."""
    return {name: norm(LoraUpdate({name: factor})) for name, factor in read_adapter(adapter).factors.items()}
