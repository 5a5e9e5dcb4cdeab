"""What a bank is made of: recipes of single adapters, and the preset that holds them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from probe.bank.training import Training
from probe.records import MergeProbeError


class PresetError(MergeProbeError):
    """A preset contradicts itself, or does not hold the adapter that was asked for."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One adapter of a bank: its name, its data, its training.

    Parameters
    ----------
    name, domain, mix
        The mix is the domain's data (`probe.bank.tasks`).
    training
        How it is trained.
    is_protected
        Whether it is never merged.
    group
        What it belongs to beyond its domain; the OSRM start looks at the group's other domains.
    shares_a_with
        Name of the adapter whose A seed it takes: a control, since a shared start fools geometric signals.
    norms_of
        ``random`` only: name of the trained adapter whose module norms it has.
    shipped_with
        Preset whose shipped folder it is copied from; None is trained here.
    data_seed, a_seed
        Given seeds; None follows from the preset and the name.
    """

    name: str
    domain: str
    mix: str
    training: Training
    is_protected: bool = False
    group: str | None = None
    shares_a_with: str | None = None
    norms_of: str | None = None
    shipped_with: str | None = None
    data_seed: int | None = None
    a_seed: int | None = None

    @property
    def is_gated(self) -> bool:
        """Whether it must score well to ship; weak preference adapters and random ones are in a bank to be weak."""
        return self.training.method not in ("dpo", "random")


@dataclass(frozen=True)
class Preset:
    """A bank to build; two presets are the same bank if they compare equal.

    Parameters
    ----------
    name, seed
        All data and every A come from the seed and the adapter's own name: presets that share a recipe and the seed
        share the adapter.
    recipes
        The adapters, in building order.
    evaluation_rows, calibration_rows
        Rows stored with each adapter; as many as its task has, where that is fewer.
    scored_rows
        Evaluation rows that the build itself asks, to see whether an adapter has learnt its task.
    shares_evaluation
        Whether adapters of one (domain, mix) have the same evaluation rows, so that their scores compare row by row.

    Raises
    ------
    PresetError
        Two recipes have one name, or a recipe names an adapter that is not in the preset.
    """

    name: str
    seed: int
    recipes: tuple[Recipe, ...]
    evaluation_rows: int = 400
    calibration_rows: int = 128
    scored_rows: int = 96
    shares_evaluation: bool = True

    def __post_init__(self) -> None:
        if len(self._by_name) < len(self.recipes):
            names = [recipe.name for recipe in self.recipes]
            twice = sorted({name for name in names if names.count(name) > 1})
            raise PresetError(f"preset {self.name!r} has several adapters named {twice[0]!r}; rename one.")
        for recipe in self.recipes:
            for name in (recipe.shares_a_with, recipe.norms_of):
                if name is not None:
                    self.recipe(name)

    @cached_property
    def _by_name(self) -> Mapping[str, Recipe]:
        return {recipe.name: recipe for recipe in self.recipes}

    def recipe(self, name: str) -> Recipe:
        """Return the recipe of an adapter.

        Raises
        ------
        PresetError
            The preset has no adapter of that name.
        """
        try:
            return self._by_name[name]
        except KeyError:
            raise PresetError(
                f"preset {self.name!r} has no adapter {name!r}; it has {', '.join(self._by_name)}."
            ) from None

    def data_seed(self, recipe: Recipe) -> int:
        """Seed of the adapter's rows and of their order."""
        return self._seed(f"data {recipe.name}") if recipe.data_seed is None else recipe.data_seed

    def a_seed(self, recipe: Recipe) -> int:
        """Seed of the adapter's A matrices: a hash that knows the name and nothing of the task."""
        if recipe.shares_a_with is not None:
            return self.a_seed(self.recipe(recipe.shares_a_with))
        return self._seed(f"A {recipe.name}") if recipe.a_seed is None else recipe.a_seed

    def evaluation_seed(self, recipe: Recipe) -> int:
        """Seed of the adapter's evaluation rows."""
        if self.shares_evaluation:
            return self._seed(f"evaluation {recipe.domain} {recipe.mix}")
        return self.data_seed(recipe)

    def _seed(self, purpose: str) -> int:
        text = f"{self.seed} {purpose}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big")
