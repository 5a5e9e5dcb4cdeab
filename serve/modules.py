"""Building modules: from an adapter or a recipe to an immutable PEFT folder whose name holds its content's hash."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from probe.adapter_io import read_adapter, revision_of, write_adapter
from probe.factors import LoraUpdate
from probe.operators import merge
from router.records import Adapter, Module, Recipe
from router.registry import Registry
from router.store import Store

HASH_LENGTH = 16
"""Hex digits of a content hash in a module's name: 64 bits, far beyond what a bank can collide."""


def separate_name(revision: str) -> str:
    """Return the name of the module that serves one revision alone."""
    return f"separate-{revision[:HASH_LENGTH]}"


def separate_recipe(module: Module) -> Recipe:
    """Return the trivial recipe of a separate module, under which its verdict is filed."""
    return Recipe("separate", module.members, (1.0,), "none", module.rank)


@dataclass(frozen=True, slots=True)
class ModuleBuilder:
    """Makes module folders in the store and records them; building the same thing again returns what stands."""

    registry: Registry
    store: Store
    base_name: str
    has_patterns: Callable[[Path], bool]

    def separate(self, adapter: Adapter) -> Module:
        """Return the module that serves one adapter's revision alone."""
        name = separate_name(adapter.revision)
        module = Module(name, (adapter.revision,), adapter.rank, adapter.num_bytes)
        if not self.store.module_path(name).is_dir():
            self._lay_out(adapter, name)
        return self.registry.put_module(module)

    def _lay_out(self, adapter: Adapter, name: str) -> None:
        source = self.store.adapter_path(adapter.revision)
        with self.store.staging() as folder:
            staged = folder / name
            if self.has_patterns(source):
                # vLLM scales every module by alpha/r of the config and ignores the patterns, so absorb the scales.
                write_adapter(staged, read_adapter(source), self.base_name, torch.float32)
            else:
                shutil.copytree(source, staged, copy_function=os.link)
            self.store.keep_module(staged, name)

    def merged(self, recipe: Recipe) -> Module:
        """Return the merged module of a recipe, merging in factor space if it was never built."""
        known = self.registry.module_of(recipe.key)
        if known and self.store.module_path(known.name).is_dir():
            return known
        merged = merge(
            self._updates(recipe), recipe.operator, weights=recipe.weights, norm=recipe.norm, rank=recipe.rank
        )
        with self.store.staging() as folder:
            staged = folder / "merged"
            write_adapter(staged, merged.update, self.base_name, torch.float32)
            name = f"merged-{revision_of(staged)[:HASH_LENGTH]}"
            num_bytes = sum(file.stat().st_size for file in staged.iterdir())
            self.store.keep_module(staged, name)
        return self.registry.put_module(
            Module(name, recipe.members, recipe.rank, num_bytes, recipe, merged.kept_energy)
        )

    def _updates(self, recipe: Recipe) -> tuple[LoraUpdate, ...]:
        return tuple(read_adapter(self.store.adapter_path(member)) for member in recipe.members)
