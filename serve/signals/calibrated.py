"""Calibrated profiles for the operators that read them, from what was measured of the members."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from probe.operators import OPERATORS, MergeError
from router.records import Adapter, Recipe
from router.registry import Registry
from serve.merging import MergeInterrupted
from serve.signals.subjects import Subjects


@dataclass(frozen=True, slots=True)
class CalibratedProfiles:
    """Finds the files that a recipe's operator reads beside the members' folders."""

    registry: Registry
    subjects: Subjects

    def __call__(self, recipe: Recipe) -> tuple[Path, ...]:
        """Return one file a member; nothing for operators that need none.

        Raises
        ------
        MergeError
            A member has no calibration rows, or they may not be run through the base model here.
        MergeInterrupted
            A member's rows are still being run through the base model.
        """
        if not OPERATORS[recipe.operator].needs:
            return ()
        adapters = {adapter.revision: adapter for adapter in self.registry.adapters()}
        return tuple(self._file(recipe, adapters.get(member)) for member in recipe.members)

    def _file(self, recipe: Recipe, adapter: Adapter | None) -> Path:
        if adapter is None:
            raise MergeInterrupted(f"A member of the merge by {recipe.operator} was removed or registered anew.")
        subject = self.subjects.full(adapter)
        if subject.rows is None:
            raise MergeError(
                f"Operator {recipe.operator!r} reads calibrated profiles, and {adapter.name} has no calibration rows "
                "(or signals.calibrate is off); register it with --calibration."
            )
        measured = self.subjects.evidence.adapter(subject)
        if measured is None or measured.profile is None:
            raise MergeInterrupted(f"Operator {recipe.operator!r} waits for the calibrated profile of {adapter.name}.")
        return self.subjects.evidence.profiles / measured.profile
