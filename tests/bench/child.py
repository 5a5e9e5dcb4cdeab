"""Time and peak memory of one call, in a process of its own so that nothing before it counts."""

from __future__ import annotations

import multiprocessing
import pickle
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call cost: wall time, and resident memory at its peak over what was resident before it."""

    seconds: float
    peak_bytes: int
    result: Any


def cost_of(prepare: Callable[[], Any], run: Callable[[Any], Any]) -> Cost:
    """Call ``run(prepare())`` in a fresh process and return what `run` alone cost; both must be importable.

    `prepare` is also where a first small call belongs, so that nobody pays for threads and code that are loaded once.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(prepare, run, sender))
    process.start()
    sender.close()
    try:
        return pickle.loads(receiver.recv_bytes())
    except EOFError:
        raise RuntimeError(f"{run.__name__} died in its process; its traceback is above") from None
    finally:
        process.join()


def _measure(prepare: Callable[[], Any], run: Callable[[Any], Any], sender: Connection) -> None:
    prepared = prepare()
    before = _forget_peak()
    began = time.perf_counter()
    result = run(prepared)
    seconds = time.perf_counter() - began
    # Bytes of our own: torch would send a tensor as a handle to memory that ends with this process.
    sender.send_bytes(pickle.dumps(Cost(seconds, _status("VmHWM") - before, result)))


def _forget_peak() -> int:
    """Reset this process's peak of resident memory to what is resident now, and return that."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found, f"the kernel says nothing of {field}"
    return int(found[1]) * 1024
