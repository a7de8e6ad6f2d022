"""How many cores there are for us."""

from __future__ import annotations

import os


def cores() -> int:
    """Return how many cores this process may use: not all of the machine in a container or a batch job."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
