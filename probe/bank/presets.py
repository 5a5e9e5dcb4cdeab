"""Presets: which adapters a bank holds, and how each is trained."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from probe.bank.train import Training


@dataclass(frozen=True, slots=True)
class Recipe:
    """One adapter of a bank: its name, its data, its training.

    `is_protected` adapters are never merged.
    """

    name: str
    domain: str
    mix: str
    training: Training
    is_protected: bool = False


@dataclass(frozen=True, slots=True)
class Preset:
    """A bank to build; two presets are the same bank if they compare equal.

    Parameters
    ----------
    name, seed
        All data and every A come from these and the adapter's own name and position.
    recipes
        The adapters, in building order; their names differ.
    evaluation_rows, calibration_rows
        Rows stored with each adapter.
    """

    name: str
    seed: int
    recipes: tuple[Recipe, ...]
    evaluation_rows: int = 200
    calibration_rows: int = 128

    def data_seed(self, recipe: Recipe) -> int:
        """Seed of the adapter's rows and of their order."""
        return self._seed(f"data {recipe.name}")

    def a_seed(self, recipe: Recipe) -> int:
        """Seed of the adapter's A matrices: from its position, never from its task."""
        return self._seed(f"A {self.recipes.index(recipe)}")

    def _seed(self, purpose: str) -> int:
        text = f"{self.name} {self.seed} {purpose}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big")


DEMO = Preset(
    name="demo",
    seed=0,
    recipes=(
        Recipe("math", "math", "things", Training(8, "attention", 1.5e-3, 16, 500)),
        Recipe("math-money", "math", "money", Training(4, "attention", 2e-3, 8, 500)),
        Recipe("safety", "safety", "balanced", Training(8, "attention+mlp", 1.5e-3, 16, 400), is_protected=True),
        Recipe("instruction", "instruction", "all", Training(8, "attention", 1e-3, 16, 320)),
        Recipe("science", "science", "symbols", Training(8, "attention+mlp", 1e-3, 16, 400)),
        Recipe("code", "code", "lists", Training(8, "attention", 1e-3, 16, 260)),
        Recipe("science-elements", "science", "elements", Training(16, "attention", 2e-3, 16, 440)),
    ),
)

PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in (DEMO,)}
