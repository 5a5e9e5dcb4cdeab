"""Building modules: from an adapter or a recipe to an immutable PEFT folder whose name holds its content's hash."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from probe.adapter_io import read_adapter, revision_of, write_adapter
from router.records import Adapter, Module, Recipe
from router.registry import Registry
from router.store import Store
from serve.merging import MODULE_DTYPE, Merge, MergeReport

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
    rank and alpha patterns, so scales are absorbed into the factors.
    """

    registry: Registry
    store: Store
    base_name: str
    merge: Merge
    profiles: Callable[[Recipe], Sequence[Path]]
    """Finds the members' calibrated profiles, for operators that read them."""

    def separate(self, adapter: Adapter) -> Module:
        """Return the module that serves one adapter's revision alone."""
        name = separate_name(adapter.revision)
        if not self.store.module_path(name).is_dir():
            with self.store.staging() as folder:
                update = read_adapter(self.store.adapter_path(adapter.revision))
                write_adapter(folder / name, update, self.base_name, MODULE_DTYPE)
                self.store.keep_module(folder / name, name)
        return self._record(Module(name, (adapter.revision,), adapter.rank, self._size(name)))

    def merged(self, recipe: Recipe) -> Module:
        """Return the merged module of a recipe, merging in factor space if it was never built.

        Raises
        ------
        MergeError
            If this recipe cannot be carried out: the operator refuses these members, or a limit is too low for them.
        MergeInterrupted
            If the merge ended for another reason, and may be tried again.
        """
        known = self.registry.module_of(recipe.key)
        if known and self.store.module_path(known.name).is_dir():
            return known
        members = [self.store.adapter_path(member) for member in recipe.members]
        profiles = self.profiles(recipe)
        with self.store.staging() as folder:
            staged = folder / "merged"
            report = self.merge(members, recipe, self.base_name, staged, profiles)
            name = f"merged-{revision_of(staged)[:HASH_LENGTH]}"
            self.store.keep_module(staged, name)
        self._tell(name, recipe, report)
        return self._record(Module(name, recipe.members, recipe.rank, self._size(name), recipe, report.kept_energy))

    def path(self, module: str) -> str:
        """Return a module's folder, as the engine takes it."""
        return str(self.store.module_path(module))

    def _tell(self, name: str, recipe: Recipe, report: MergeReport) -> None:
        told = (
            f"{len(recipe.members)} adapters merged by {recipe.operator} ({recipe.norm}) in {report.seconds:.1f} s; "
            f"rank {recipe.rank} keeps {report.kept_energy:.1%} of the energy"
        )
        self.registry.record_event("merged", name, told, operator=recipe.operator, **asdict(report))

    def _size(self, name: str) -> int:
        return sum(file.stat().st_size for file in self.store.module_path(name).iterdir())

    def _record(self, module: Module) -> Module:
        self.registry.put_module(module)
        return module
