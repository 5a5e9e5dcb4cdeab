"""The merge as a Ray task in a process of its own, so that no merge can take the controller's memory or time.

Ray's `memory=` only reserves; the worker limits itself. It is used once, so what a merge leaves behind goes with it.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import ray
from ray import ObjectRefGenerator
from ray.exceptions import RayError, RayTaskError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from probe.operators import MergeError
from probe.records import MergeProbeError
from router.records import Recipe
from serve.config import MergeConfig
from serve.memory_limit import limited_memory
from serve.merging import Merge, MergeInterrupted, MergeReport, merge_files

log = logging.getLogger("ray.serve")

START_SECONDS = 120.0
"""A worker starts in seconds; when none has by now, the node has no room, and the controller has other work."""
STOP_SECONDS = 10.0
"""A killed worker is gone in less; until then it may write into the folder that the caller is about to remove."""
MAX_CRASHES = 3
"""A merge that has ended its worker this often is taken to be the cause itself, or it would begin every tick."""
NICENESS = 15
"""As Ray's workers have by default, and the engine has not: clients' tokens do not wait for a merge."""


class MergeOutOfMemory(MergeError):
    """The merge needs more memory than `merge.memory_bytes`."""


class MergeTimedOut(MergeError):
    """The merge takes longer than `merge.timeout_seconds`."""


class MergeKeepsCrashing(MergeError):
    """The merge ended its worker again and again."""


@dataclass(frozen=True, slots=True)
class RayMerge:
    """Carries recipes out in workers on this node, where the folders are; a `Merge`.

    Attributes
    ----------
    limits
        Of memory and time.
    merge
        What the worker runs.
    """

    limits: MergeConfig
    merge: Merge = merge_files
    _crashes: Counter[str] = field(default_factory=Counter)

    def __call__(self, folders: Sequence[Path], recipe: Recipe, base_name: str, target: Path) -> MergeReport:
        """Merge adapter folders into a new one; see `Merge`.

        Raises
        ------
        MergeError
            As the merge itself; also MergeOutOfMemory, MergeTimedOut and, after `MAX_CRASHES`, MergeKeepsCrashing.
        MergeInterrupted
            Ray found no room for a worker, or the worker ended before the merge did.
        """
        what = f"Merging {len(folders)} adapters by {recipe.operator} into rank {recipe.rank}"
        task = self._start(folders, recipe, base_name, target)
        try:
            return self._result(task, what)
        except RayTaskError as error:
            raise self._from_worker(error.cause, what, recipe) from error
        except TaskUnschedulableError as error:
            raise MergeInterrupted(
                f"{what} needs 1 CPU and {_mebibytes(self.limits.memory_bytes)}, which Ray's node never has; lower "
                "merge.memory_bytes or start Ray with more."
            ) from error
        except RayError as error:
            raise self._crash(f"{what} lost its worker ({_first_line(error)})", recipe) from error

    def _start(self, *arguments: object) -> ObjectRefGenerator:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        task = _merge.options(memory=self.limits.memory_bytes, scheduling_strategy=here)
        return task.remote(self.merge, self.limits.memory_bytes, *arguments)

    def _result(self, task: ObjectRefGenerator, what: str) -> MergeReport:
        if not _is_ready(task, START_SECONDS):
            ray.cancel(task, force=True)
            raise MergeInterrupted(
                f"{what} found no free CPU or memory on Ray's node within {START_SECONDS:.0f} s; it is tried again, "
                "and more CPUs for Ray would help."
            )
        worker = ray.get(next(task))
        if not _is_ready(task, self.limits.timeout_seconds):
            _stop(task, worker)
            raise MergeTimedOut(
                f"{what} took longer than {self.limits.timeout_seconds:g} s and was ended; raise "
                "merge.timeout_seconds, or merge fewer adapters (policy.max_group_size)."
            )
        report: MergeReport = ray.get(next(task))
        return report

    def _from_worker(self, error: Exception, what: str, recipe: Recipe) -> MergeProbeError:
        """Return what an exception inside the worker means here."""
        if isinstance(error, MergeError):
            return error
        if isinstance(error, MemoryError):
            return MergeOutOfMemory(
                f"{what} needs more than {_mebibytes(self.limits.memory_bytes)} of memory; raise merge.memory_bytes, "
                "or merge fewer adapters (policy.max_group_size)."
            )
        return self._crash(f"{what} failed with {type(error).__name__} ({_first_line(error)})", recipe)

    def _crash(self, what: str, recipe: Recipe) -> MergeProbeError:
        log.exception("%s", what)
        self._crashes[recipe.key] += 1
        if self._crashes[recipe.key] < MAX_CRASHES:
            return MergeInterrupted(f"{what}; the next tick tries it again.")
        return MergeKeepsCrashing(f"{what}; that was crash {MAX_CRASHES}, and the last. The log has the details.")


@ray.remote(num_cpus=1, max_calls=1, max_retries=0)
def _merge(merge: Merge, memory_bytes: int, *arguments: Any) -> Iterator[int | MergeReport]:
    """Say which process this is, then merge: the caller's patience starts with the work, not with the queue."""
    yield os.getpid()
    os.nice(NICENESS)
    with limited_memory(memory_bytes):
        report = merge(*arguments)
    yield report


def _is_ready(task: ObjectRefGenerator, seconds: float) -> bool:
    ready, _ = ray.wait([task], timeout=seconds)
    return bool(ready)


def _stop(task: ObjectRefGenerator, worker: int) -> None:
    ray.cancel(task, force=True)
    with suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
        psutil.Process(worker).wait(STOP_SECONDS)


def _mebibytes(num_bytes: int) -> str:
    return f"{num_bytes / (1 << 20):.0f} MiB"


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
