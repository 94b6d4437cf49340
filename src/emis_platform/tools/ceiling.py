"""A ceiling on the memory that a piece of code may take beyond what the process has: past it, MemoryError. Linux; elsewhere none."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STATM = Path("/proc/self/statm")


@contextmanager
def ceiling(extra: int) -> Iterator[None]:
    """Let the process's address space grow by `extra` bytes at most. The old limit comes back; a lower one that was set stands."""
    if not STATM.exists():
        yield
        return
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = int(STATM.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") + extra
    known = [limit for limit in (before, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(wanted, *known) if known else wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))
