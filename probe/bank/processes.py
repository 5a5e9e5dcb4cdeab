"""What every worker process of a bank does first."""

from __future__ import annotations

import multiprocessing
import os
import threading

import torch


def begin_work(num_threads: int) -> None:
    """Use so many CPU threads, and leave when the parent process is gone.

    A killed parent tells nobody, and its workers would go on, or wait for ever.
    """
    torch.set_num_threads(num_threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
