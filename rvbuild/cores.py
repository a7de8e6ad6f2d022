"""The number of available cores and of the threads of a computation, and what a job is told of its place."""

from __future__ import annotations

import os
from dataclasses import dataclass

from rvbuild.errors import UsageError

THREADS_VARIABLE = "RVBUILD_THREADS"

CARD_VARIABLE = "RVBUILD_CARD"
"""The variable that tells a job its GPU, as a number among CUDA's visible devices; or several, as `0,1`."""

PART_VARIABLE = "RVBUILD_PART"
"""The variable that tells a job which process of a work it is, of how many, and where they meet; see `Part`."""


@dataclass(frozen=True)
class Part:
    """One of several processes that do one work on several machines.

    Attributes
    ----------
    rank : int
        Its number, from 0.
    processes : int
        How many there are.
    host : str
        The machine of the first one, as the others reach it.
    port : int
        A free port there, at which they meet.
    """

    rank: int
    processes: int
    host: str
    port: int

    def environment(self) -> dict[str, str]:
        """Return the environment variable that tells a job its part."""
        return {PART_VARIABLE: f"{self.rank} {self.processes} {self.host} {self.port}"}


def part_of_work() -> Part | None:
    """Return which part of a work this job is; None if it is the whole."""
    words = os.environ.get(PART_VARIABLE, "").split()
    return Part(int(words[0]), int(words[1]), words[2], int(words[3])) if words else None


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
