"""The number of available cores, and of the threads of a computation."""

from __future__ import annotations

import os

from rvbuild.errors import UsageError

THREADS_VARIABLE = "RVBUILD_THREADS"

CARD_VARIABLE = "RVBUILD_CARD"
"""The variable that tells a job its GPU, as a number among CUDA's visible devices; or several, as `0,1`."""


def cores() -> int:
    """Return the number of cores that this process may use, which a container or a batch job may limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_count() -> int:
    """Return the number of threads of one computation: `RVBUILD_THREADS`, or else the available cores.

    It must not depend on the number of parallel jobs, because it affects the rounding of sums.
    """
    text = os.environ.get(THREADS_VARIABLE, "").strip()
    if not text:
        return cores()
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{THREADS_VARIABLE}: expected a whole number of at least 1, found {text!r}")
    return int(text)
