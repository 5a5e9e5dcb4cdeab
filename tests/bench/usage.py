"""Who used how much CPU: the two servers' process trees, the engines' threads, and everybody else."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

BUSY_SHARE = 0.05
"""A thread that runs for less of the time than this is not one that computes."""


def tree(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants; nothing if it is gone."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """Return the CPU time that these processes have used so far; a process that is gone counts nothing."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            used = process.cpu_times()
            total += used.user + used.system
    return total


def machine_cpu_seconds() -> float:
    """Return the CPU time that everything on this machine has used so far, what a hypervisor took included."""
    used = psutil.cpu_times()
    return float(used.user + used.nice + used.system + used.irq + used.softirq + used.steal)


@dataclass(frozen=True, slots=True)
class ThreadUse:
    """Threads of one process that computed during some time, the cores that each may run on, and its niceness."""

    process: str
    num_busy: int
    cores: tuple[tuple[int, ...], ...]
    niceness: int
    cpu_share: float


class ThreadWatch:
    """Watches the engine's own processes in a server's tree between its making and `seen`."""

    def __init__(self, pid: int) -> None:
        self._processes = [process for process in tree(pid) if _is_engine(process)]
        self._before = {process.pid: _thread_seconds(process) for process in self._processes}

    def seen(self, seconds: float) -> list[ThreadUse]:
        """Return each engine process with the threads that were busy during the `seconds` since."""
        return [self._use(process, seconds) for process in self._processes]

    def _use(self, process: psutil.Process, seconds: float) -> ThreadUse:
        before = self._before[process.pid]
        used = {thread: now - before.get(thread, 0.0) for thread, now in _thread_seconds(process).items()}
        busy = [thread for thread, spent in used.items() if spent > BUSY_SHARE * seconds]
        cores = tuple(tuple(sorted(os.sched_getaffinity(thread))) for thread in sorted(busy))
        return ThreadUse(_title(process), len(busy), cores, process.nice(), sum(used.values()) / seconds)


def _is_engine(process: psutil.Process) -> bool:
    return _title(process).startswith("VLLM::")


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.NoSuchProcess:
        return ""


def _thread_seconds(process: psutil.Process) -> dict[int, float]:
    return {thread.id: thread.user_time + thread.system_time for thread in process.threads()}


@dataclass(frozen=True, slots=True)
class CpuShares:
    """CPU time over wall time during one block, in cores."""

    asked: float
    """The server that was asked, with all its processes."""
    idle: float
    """The other server, which had nothing to do."""
    client: float
    elsewhere: float
    """What neither server nor this benchmark used: other people's processes, which disturb the measurement."""


class CpuMeter:
    """Meters both servers' trees and this process from its making to `read`."""

    def __init__(self, asked_pid: int, idle_pid: int) -> None:
        self._trees = (tree(asked_pid), tree(idle_pid), [psutil.Process(os.getpid())])
        self._before, self._began = self._used(), time.perf_counter()

    def read(self) -> CpuShares:
        """Return the shares since the meter was made."""
        seconds = time.perf_counter() - self._began
        used = [(now - before) / seconds for now, before in zip(self._used(), self._before, strict=True)]
        asked, idle, client, everything = used
        return CpuShares(asked, idle, client, max(0.0, everything - asked - idle - client))

    def _used(self) -> tuple[float, ...]:
        return (*(cpu_seconds(processes) for processes in self._trees), machine_cpu_seconds())
