"""Building modules: from an adapter or a recipe to an immutable PEFT folder whose name holds its content's hash."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from probe.adapter_io import read_adapter, revision_of, write_adapter
from probe.factors import LoraUpdate
from probe.operators import Norm, merge
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
    """Makes module folders in the store and records them; building the same thing again returns what stands.

    Folders are written anew even for a single adapter: vLLM scales every matrix by alpha/r of the config and ignores
    rank and alpha patterns, so scales are absorbed into the factors. Float32, so that nothing is rounded twice.
    """

    registry: Registry
    store: Store
    base_name: str

    def separate(self, adapter: Adapter) -> Module:
        """Return the module that serves one adapter's revision alone."""
        name = separate_name(adapter.revision)
        if not self.store.module_path(name).is_dir():
            with self.store.staging() as folder:
                self._write(folder / name, read_adapter(self.store.adapter_path(adapter.revision)))
                self.store.keep_module(folder / name, name)
        return self._record(Module(name, (adapter.revision,), adapter.rank, self._size(name)))

    def merged(self, recipe: Recipe) -> Module:
        """Return the merged module of a recipe, merging in factor space if it was never built.

        Raises
        ------
        MergeError
            If the operator cannot merge these members.
        """
        known = self.registry.module_of(recipe.key)
        if known and self.store.module_path(known.name).is_dir():
            return known
        updates = [read_adapter(self.store.adapter_path(member)) for member in recipe.members]
        norm = cast(Norm, recipe.norm)  # a record holds text; `merge` refuses what it does not know
        merged = merge(updates, recipe.operator, recipe.weights, norm, rank=recipe.rank)
        with self.store.staging() as folder:
            self._write(folder / "merged", merged.update)
            name = f"merged-{revision_of(folder / 'merged')[:HASH_LENGTH]}"
            self.store.keep_module(folder / "merged", name)
        return self._record(Module(name, recipe.members, recipe.rank, self._size(name), recipe, merged.kept_energy))

    def path(self, module: str) -> str:
        """Return a module's folder, as the engine takes it."""
        return str(self.store.module_path(module))

    def _write(self, folder: Path, update: LoraUpdate) -> None:
        write_adapter(folder, update, self.base_name, torch.float32)

    def _size(self, name: str) -> int:
        return sum(file.stat().st_size for file in self.store.module_path(name).iterdir())

    def _record(self, module: Module) -> Module:
        self.registry.put_module(module)
        return module
