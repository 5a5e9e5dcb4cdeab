"""A hard limit on what a block of code may allocate, kept by the kernel."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

REFUSED = "allocate memory"
"""What torch and the C library say, each in its own exception, when the kernel refuses memory."""


@contextmanager
def limited_memory(num_bytes: int) -> Iterator[None]:
    """Let this process get at most `num_bytes` more from the kernel inside the block.

    Private data is what is limited (RLIMIT_DATA), not address space, of which thread stacks, shared memory and mapped
    files reserve gigabytes that nobody ever fills. What the allocator holds free already does not count, for the kernel
    gave it before. The limit is lifted at the end, so that an error can be reported.

    Raises
    ------
    MemoryError
        The block asked for more, through Python or torch.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    allowed = psutil.Process().memory_info().data + num_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (allowed if hard == resource.RLIM_INFINITY else min(allowed, hard), hard))
    try:
        yield
    except Exception as error:
        if REFUSED in str(error):
            raise MemoryError(str(error)) from None
        raise
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
