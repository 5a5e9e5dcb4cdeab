"""One merge, from adapter folders to a module folder: what a builder asks for, and the function that does it.

Knows nothing of Ray, so the same function runs in a test's process and in the worker of `serve/merge_job.py`.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import torch

import probe.operators
from probe.adapter_io import read_adapter, write_adapter
from probe.operators import Norm, merge
from probe.profile_store import read_profile
from probe.profiles import Calibration
from probe.records import MergeProbeError
from router.records import Recipe

MODULE_DTYPE = torch.float32
"""Of every module folder, so that nothing is rounded twice."""


class MergeInterrupted(MergeProbeError):
    """A merge ended early for a reason that need not lie in its recipe: it may be tried again."""


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What a merge did, and what it took.

    Attributes
    ----------
    kept_energy
        0..1, share of the squared norm that truncation to the output rank kept.
    norm_ratio_mean_source, norm_ratio_ta
        Length of the merged update over the members' mean length, and over that of their weighted sum; >= 0.
    seconds
        From the first file read to the last one written.
    peak_memory_bytes
        The most that the process has held resident, libraries included.
    """

    kept_energy: float
    norm_ratio_mean_source: float
    norm_ratio_ta: float
    seconds: float
    peak_memory_bytes: int


class Merge(Protocol):
    """Anything that carries a recipe out."""

    def __call__(
        self, folders: Sequence[Path], recipe: Recipe, base_name: str, target: Path, profiles: Sequence[Path] = ()
    ) -> MergeReport:
        """Merge adapter folders, one a member, into a new PEFT folder.

        Parameters
        ----------
        profiles
            Files of the members' calibrated profiles, one each; only for operators that need data.

        Raises
        ------
        MergeError
            This recipe cannot be carried out, today or tomorrow.
        MergeInterrupted
            The merge ended for another reason; `target` may be incomplete.
        """
        ...


def probe_recipe(recipe: Recipe) -> probe.operators.Recipe:
    """Return the recipe apart from its members, as `probe.operators.merge` takes it."""
    return probe.operators.Recipe(
        operator=recipe.operator,
        weights=recipe.weights,
        norm=cast(Norm, recipe.norm),  # a record holds text; `merge` refuses what it does not know
        rank=recipe.rank,
        pruned=recipe.pruned,
        hyper_parameters=dict(recipe.hyper_parameters),
        seed=recipe.seed,
    )


def merge_files(
    folders: Sequence[Path], recipe: Recipe, base_name: str, target: Path, profiles: Sequence[Path] = ()
) -> MergeReport:
    """Merge adapter folders in this process, in factor space; see `Merge`."""
    began = time.perf_counter()
    merged = merge([read_adapter(folder) for folder in folders], probe_recipe(recipe), _calibrations(profiles))
    write_adapter(target, merged.update, base_name, MODULE_DTYPE)
    return MergeReport(
        kept_energy=merged.kept_energy,
        norm_ratio_mean_source=merged.norm_ratio_mean_source,
        norm_ratio_ta=merged.norm_ratio_ta,
        seconds=time.perf_counter() - began,
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,  # Linux counts in KiB
    )


def _calibrations(profiles: Sequence[Path]) -> list[Calibration] | None:
    found = [read_profile(path) for path in profiles]
    calibrations = [profile.calibration for profile in found if profile is not None]
    return [one for one in calibrations if one is not None] or None
