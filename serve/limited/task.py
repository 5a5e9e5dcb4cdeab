"""A piece of work as a Ray task in a process of its own, so that none can take the controller's memory or time.

Ray's `memory=` only reserves; the worker limits itself. It is used once, so what the work leaves behind goes with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, TypeVar

import psutil
import ray
from ray import ObjectRefGenerator
from ray.exceptions import RayError, RayTaskError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from probe.records import MergeProbeError
from serve.limited.limits import TaskLimits
from serve.limited.memory import limited_memory

Result = TypeVar("Result")

START_SECONDS = 120.0
"""A worker starts in seconds; when none has by now, the node has no room, and the controller has other work."""
STOP_SECONDS = 10.0
"""A killed worker is gone in less; until then it may write into the folder that the caller is about to remove."""
NICENESS = 15
"""As Ray's workers have by default, and the engine has not: clients' tokens do not wait for this."""


class NoRoom(MergeProbeError):
    """Ray found no CPU or memory for a worker."""


class TaskOutOfMemory(MergeProbeError):
    """The work needs more memory than its limit."""


class TaskTimedOut(MergeProbeError):
    """The work takes longer than its limit; its worker was ended."""


class TaskCrashed(MergeProbeError):
    """The work failed with something that is no error of ours, or its worker ended before it did."""


@dataclass(frozen=True, slots=True)
class Workers:
    """Runs work on this node, where the folders are: one piece at a time, because the memory of two is not there."""

    _turn: Lock = field(default_factory=Lock)

    def run(self, what: str, limits: TaskLimits, work: Callable[..., Result], *arguments: object) -> Result:
        """Return what the work returns, however long its turn takes to come.

        Parameters
        ----------
        what
            Names the work at the start of a sentence.
        work, arguments
            Pickled into the worker.

        Raises
        ------
        MergeProbeError
            One of ours that the work raised.
        NoRoom, TaskOutOfMemory, TaskTimedOut, TaskCrashed
        """
        with self._turn:
            try:
                return _run(what, limits, work, arguments)
            except RayTaskError as error:
                raise _from_worker(error.cause, what, limits) from error
            except TaskUnschedulableError as error:
                raise NoRoom(
                    f"{what} needs 1 CPU and {_mebibytes(limits)}, which Ray's node never has; lower "
                    f"{limits.section}.memory_bytes or start Ray with more."
                ) from error
            except RayError as error:
                raise TaskCrashed(f"{what} lost its worker ({_first_line(error)})") from error


def _run(what: str, limits: TaskLimits, work: Callable[..., Result], arguments: tuple[object, ...]) -> Result:
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = _work.options(memory=limits.memory_bytes, scheduling_strategy=here)
    task: ObjectRefGenerator = options.remote(work, limits.memory_bytes, *arguments)
    if not _is_ready(task, START_SECONDS):
        ray.cancel(task, force=True)
        raise NoRoom(
            f"{what} found no free CPU or memory on Ray's node within {START_SECONDS:.0f} s; it is tried again, and "
            "more CPUs for Ray would help."
        )
    worker = ray.get(next(task))
    if not _is_ready(task, limits.timeout_seconds):
        _stop(task, worker)
        raise TaskTimedOut(
            f"{what} took longer than {limits.timeout_seconds:g} s and was ended; raise "
            f"{limits.section}.timeout_seconds"
        )
    result: Result = ray.get(next(task))
    return result


@ray.remote(num_cpus=1, max_calls=1, max_retries=0)
def _work(work: Callable[..., Any], memory_bytes: int, *arguments: Any) -> Iterator[Any]:
    """Say which process this is, then work: the caller's patience starts with the work, not with the queue."""
    yield os.getpid()
    os.nice(NICENESS)
    with limited_memory(memory_bytes):
        result = work(*arguments)
    yield result


def _from_worker(error: Exception, what: str, limits: TaskLimits) -> MergeProbeError:
    """Return what an exception inside the worker means here."""
    if isinstance(error, MergeProbeError):
        return error
    if isinstance(error, MemoryError):
        return TaskOutOfMemory(
            f"{what} needs more than {_mebibytes(limits)} of memory; raise {limits.section}.memory_bytes"
        )
    return TaskCrashed(f"{what} failed with {type(error).__name__} ({_first_line(error)})")


def _is_ready(task: ObjectRefGenerator, seconds: float) -> bool:
    ready, _ = ray.wait([task], timeout=seconds)
    return bool(ready)


def _stop(task: ObjectRefGenerator, worker: int) -> None:
    ray.cancel(task, force=True)
    with suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
        psutil.Process(worker).wait(STOP_SECONDS)


def _mebibytes(limits: TaskLimits) -> str:
    return f"{limits.memory_bytes / (1 << 20):.0f} MiB"


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
