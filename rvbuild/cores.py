"""The number of available cores, and of the threads of a computation."""

from __future__ import annotations

import os

from rvbuild.errors import UsageError

THREADS_VARIABLE = "RVBUILD_THREADS"

CARD_VARIABLE = "RVBUILD_CARD"
"""Tells a job which GPU it has, in CUDA's numbering of the visible devices."""


def cores() -> int:
    """Return how many cores this process may use: fewer than the machine has in a container or a batch job."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_count() -> int:
    """Return the number of threads of one computation: `RVBUILD_THREADS`, or else the available cores.

    It must not depend on how many artifacts are built in parallel, because sums over threads are rounded differently.
    """
    text = os.environ.get(THREADS_VARIABLE, "").strip()
    if not text:
        return cores()
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{THREADS_VARIABLE}: expected a whole number of at least 1, found {text!r}")
    return int(text)
