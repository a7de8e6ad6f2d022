"""A measured figure beside the bar that it must clear, and the table of them.

Speed is measured in CPU seconds on one core: seconds by the clock hide work on other cores.
"""

from __future__ import annotations

import contextlib
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Cost(NamedTuple):
    """CPU seconds."""

    unit: str
    """Of what: a window, a call of the command."""
    seconds: float
    """Of one, in all threads and processes."""
    bare: float | None = None
    """Of one in the bare loop, if there is a loop to compare with."""

    def __str__(self) -> str:
        bare = "" if self.bare is None else f" ({1000 * self.bare:.4g} ms)"
        return f"{1000 * self.seconds:.4g} ms{bare} a {self.unit}"


class Spent(NamedTuple):
    """What a call took, in seconds."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Figure:
    """One measurement. `at_most` says on which side of the bar it must lie; `note` says what it was made of."""

    title: str
    measured: float
    bar: float
    unit: str
    at_most: bool
    note: str = ""
    cost: Cost | None = None

    @property
    def holds(self) -> bool:
        return self.measured <= self.bar if self.at_most else self.measured >= self.bar


def table(figures: Iterable[Figure]) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        "| what | measured | bar | holds | CPU (of the bare loop) | made of |",
        "|---|---:|---:|---|---|---|",
    ]
    for figure in figures:
        sign = "≤" if figure.at_most else "≥"
        lines.append(
            f"| {figure.title} | {figure.measured:.3g} {figure.unit} | {sign} {figure.bar:g} {figure.unit} "
            f"| {'yes' if figure.holds else '**no**'} | {figure.cost or ''} | {figure.note} |",
        )
    return "\n".join(lines)


def seconds(function: Callable[[], object]) -> float:
    """Return the wall-clock seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def cpu() -> float:
    """Return the CPU seconds of this process, its threads, and the processes that it waited for."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def spent(function: Callable[[], object]) -> Spent:
    """Return what one call takes."""
    start, before = time.perf_counter(), cpu()
    function()
    return Spent(time.perf_counter() - start, cpu() - before)


def cpu_seconds(function: Callable[[], object]) -> float:
    """Return the CPU seconds of one call."""
    return spent(function).cpu


def median(spent: Iterable[Spent]) -> Spent:
    """Return the median of each of both times."""
    return Spent(*map(statistics.median, zip(*spent, strict=True)))


def cpu_of(pid: int) -> float:
    """Return the CPU seconds that another process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


_CORES = sorted(os.sched_getaffinity(0))
"""All that this process may use."""


def use_cores(count: int) -> None:
    """Bind this process, and threads and processes that it starts from now on, to some of its cores."""
    os.sched_setaffinity(0, _CORES[-count:])


@contextlib.contextmanager
def at_least_cores(count: int) -> Iterator[None]:
    """Use so many cores in a block that measures several processes beside each other.

    Raises
    ------
    RuntimeError
        There are fewer.
    """
    if len(_CORES) < count:
        raise RuntimeError(f"this is measured on {count} cores, and there are {len(_CORES)}")
    before = os.sched_getaffinity(0)
    use_cores(max(count, len(before)))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def interleaved(repetitions: int, *functions: Callable[[], float]) -> list[float]:
    """Return the median seconds of each function, run in turns so that foreign load hits all of them alike.

    Each function returns the seconds that it wants counted. The first turn warms up and is not counted.
    """
    counted: list[list[float]] = [[] for _ in functions]
    for turn in range(repetitions + 1):
        for function, times in zip(functions, counted, strict=True):
            spent = function()
            if turn:
                times.append(spent)
    return [statistics.median(times) for times in counted]
