"""The memory of this process."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

GROWTH_BYTES = 8 << 20
"""By how much a process may grow before freed memory goes back: a page that does costs time when it is used again."""


def give_back() -> None:
    """Give freed memory back to the system, which the C library of Linux keeps for later; elsewhere nothing happens."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


class Growth:
    """Gives freed memory back when a process has grown.

    What work takes and frees is kept by the C library for the next time. But it lies between what is in use, and is
    spread over more of the heap with each time.
    """

    def __init__(self) -> None:
        self._settled: int | None = None

    def limit(self) -> None:
        """Give freed memory back if the process has grown by more than `GROWTH_BYTES` since the work settled.

        To be called after each of the times. The first after memory was given back tells what the work takes.
        """
        resident = _resident_bytes()
        if self._settled is None:
            self._settled = resident
        elif resident > self._settled + GROWTH_BYTES:
            give_back()
            self._settled = None


def _resident_bytes() -> int:
    """Return the memory that this process has; 0 where only other systems than Linux know."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
