"""Several processes that build one bank together."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Collection
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import torch

from probe.bank.build import BuiltAdapter, build_bank
from probe.bank.presets import Preset
from probe.bank.processes import begin_work
from probe.bank.progress import OnProgress, Progress

Messages = SimpleQueue[Progress | None]

# Of a worker process: where its progress goes.
_messages: Messages | None = None


def build_in_processes(
    preset: Preset,
    out: Path,
    base: Path,
    num_processes: int,
    device: str = "cpu",
    on_progress: OnProgress | None = None,
    only: Collection[str] | None = None,
) -> tuple[BuiltAdapter, ...]:
    """Build a bank in this process, or in several that share its CPU threads; see `probe.bank.build.build_bank`.

    On CPUs, adapters of small models train faster side by side than one after another on all cores.
    """
    if num_processes == 1:
        return build_bank(preset, out, base, device, on_progress, only)
    context = multiprocessing.get_context("spawn")
    messages: Messages = context.SimpleQueue()
    num_threads = max(1, torch.get_num_threads() // num_processes)
    listener = threading.Thread(target=_pass_on, args=(messages, on_progress), daemon=True)
    listener.start()
    try:
        with ProcessPoolExecutor(num_processes, context, _prepare, (messages, num_threads)) as pool:
            futures = [
                pool.submit(_build, preset, out, base, device, only, num_processes) for _ in range(num_processes)
            ]
            # Each returns when the whole bank is there, and any of them may have failed.
            results = [future.result() for future in futures]
            return results[0]
    finally:
        messages.put(None)
        listener.join()


def _prepare(messages: Messages, num_threads: int) -> None:
    global _messages
    _messages = messages
    begin_work(num_threads)


def _build(
    preset: Preset, out: Path, base: Path, device: str, only: Collection[str] | None, num_workers: int
) -> tuple[BuiltAdapter, ...]:
    return build_bank(preset, out, base, device, _send, only, num_workers)


def _send(progress: Progress) -> None:
    if _messages is not None:
        _messages.put(progress)


def _pass_on(messages: Messages, on_progress: OnProgress | None) -> None:
    while (progress := messages.get()) is not None:
        if on_progress is not None:
            on_progress(progress)
