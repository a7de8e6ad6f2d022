"""A measured figure beside the bar that it must clear, and the table of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measurement. `at_most` says on which side of the bar it must lie; `note` says what it was made of."""

    title: str
    measured: float
    bar: float
    unit: str
    at_most: bool
    note: str = ""

    @property
    def holds(self) -> bool:
        return self.measured <= self.bar if self.at_most else self.measured >= self.bar


def table(figures: Iterable[Figure]) -> str:
    """Return the figures as a Markdown table."""
    lines = ["| what | measured | bar | holds | made of |", "|---|---:|---:|---|---|"]
    for figure in figures:
        sign = "≤" if figure.at_most else "≥"
        lines.append(
            f"| {figure.title} | {figure.measured:.3g} {figure.unit} | {sign} {figure.bar:g} {figure.unit} "
            f"| {'yes' if figure.holds else '**no**'} | {figure.note} |",
        )
    return "\n".join(lines)


def seconds(function: Callable[[], object]) -> float:
    """Return the wall-clock seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


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
