"""The merge as a Ray task: which recipe it is about, and which of its failures are the recipe's own."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from probe.operators import MergeError
from probe.records import MergeProbeError
from router.records import Recipe
from serve.limited.limits import MergeConfig
from serve.limited.task import NoRoom, TaskCrashed, TaskOutOfMemory, TaskTimedOut, Workers
from serve.merging import Merge, MergeInterrupted, MergeReport, merge_files

log = logging.getLogger("ray.serve")

MAX_CRASHES = 3
"""A merge that has ended its worker this often is taken to be the cause itself, or it would begin every tick."""
SMALLER = "or merge fewer adapters (policy.max_group_size)."


class MergeOutOfMemory(MergeError):
    """The merge needs more memory than `merge.memory_bytes`."""


class MergeTimedOut(MergeError):
    """The merge takes longer than `merge.timeout_seconds`."""


class MergeKeepsCrashing(MergeError):
    """The merge ended its worker again and again."""


@dataclass(frozen=True, slots=True)
class RayMerge:
    """Carries recipes out in workers; a `Merge`.

    Attributes
    ----------
    limits
        Of memory and time.
    merge
        What the worker runs.
    """

    limits: MergeConfig
    workers: Workers = field(default_factory=Workers)
    merge: Merge = merge_files
    _crashes: Counter[str] = field(default_factory=Counter)

    def __call__(
        self, folders: Sequence[Path], recipe: Recipe, base_name: str, target: Path, profiles: Sequence[Path] = ()
    ) -> MergeReport:
        """Merge adapter folders into a new one; see `Merge`.

        Raises
        ------
        MergeError
            As the merge itself; also MergeOutOfMemory, MergeTimedOut and, after `MAX_CRASHES`, MergeKeepsCrashing.
        MergeInterrupted
            Ray found no room for a worker, or the worker ended before the merge did.
        """
        what = f"Merging {len(folders)} adapters by {recipe.operator} into rank {recipe.rank}"
        try:
            return self.workers.run(what, self.limits, self.merge, folders, recipe, base_name, target, profiles)
        except MergeError:
            raise
        except TaskOutOfMemory as error:
            raise MergeOutOfMemory(f"{error}, {SMALLER}") from error
        except TaskTimedOut as error:
            raise MergeTimedOut(f"{error}, {SMALLER}") from error
        except NoRoom as error:
            raise MergeInterrupted(str(error)) from error
        except MergeProbeError as error:
            told = str(error) if isinstance(error, TaskCrashed) else f"{what} failed ({error})"
            raise self._crash(told, recipe) from error

    def _crash(self, what: str, recipe: Recipe) -> MergeProbeError:
        log.exception("%s", what)
        self._crashes[recipe.key] += 1
        if self._crashes[recipe.key] < MAX_CRASHES:
            return MergeInterrupted(f"{what}; the next tick tries it again.")
        return MergeKeepsCrashing(f"{what}; that was crash {MAX_CRASHES}, and the last. The log has the details.")
