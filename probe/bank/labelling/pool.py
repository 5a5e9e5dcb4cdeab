"""Share work among processes; the results come back to the one that asked, which alone writes files."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, TypeVar

from probe.bank.processes import begin_work

Result = TypeVar("Result")
Call = tuple[Any, ...]
"""Arguments of one piece of work."""


class Pool:
    """One process that does the work itself, or several with one thread each."""

    def __init__(self, executor: ProcessPoolExecutor | None) -> None:
        self._executor = executor

    def results(self, work: Callable[..., Result], calls: Sequence[Call]) -> Iterator[Result]:
        """Yield the result of every call, as they come.

        An exception, in the work or in whoever takes the results, drops the calls that have not begun.
        """
        if self._executor is None:
            yield from (work(*call) for call in calls)
            return
        futures: list[Future[Result]] = [self._executor.submit(work, *call) for call in calls]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


@contextmanager
def pool(jobs: int) -> Iterator[Pool]:
    """Start `jobs` processes, 1 being this one; they end with the block, or with this process if it is killed."""
    if jobs == 1:
        yield Pool(None)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, begin_work, (1,)) as executor:
        yield Pool(executor)
