"""The places of a scene where most is wrong: squares of a fixed grid, ranked by their errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypedDict

from rvbuild.geo.windows import Window

SIDE_PX = 256
"""Side of the squares."""

MOST = 50
"""Maximum number of places, all kinds of errors together."""

MOST_OF_PAIR = 20
"""Maximum number of places of one kind of error: one class predicted as one other."""

WRONG = (214, 39, 40, 200)
MISSED = (255, 191, 0, 200)
RIGHT = (44, 160, 44, 200)
OUTSIDE = (0, 0, 0, 150)
"""Red, green, blue and opacity of errors, of missed labels, of what is right, and of what is not evaluated."""

Pair = tuple[int, int]
"""Class ids of the label and of the prediction. The null class stands for no label and for no prediction."""


class Place(TypedDict):
    """One place, as JSON.

    `window` is (row, col, height, width) in pixels of the scene; `errors` has label, prediction and count of each kind
    of error, most frequent first; places are ranked by their `severity`.
    """

    window: list[int]
    severity: float
    errors: list[list[int]]


class Places(TypedDict):
    """The worst places of a scene, as JSON.

    `places` come in order, worst first; `pairs` has label, prediction and, worst first, the positions of the places of
    each kind of error.
    """

    places: list[Place]
    pairs: list[tuple[int, int, list[int]]]


class WorstPlaces:
    """Collects the worst places of a scene, in bounded memory; independent of the order in which they are added."""

    def __init__(self) -> None:
        self._errors: dict[Window, Mapping[Pair, int]] = {}
        self._severity: dict[Window, float] = {}
        self._pairs: set[Pair] = set()

    def add(self, window: Window, errors: Mapping[Pair, int], severity: float | None = None) -> None:
        """Add a place once, with the counts of its errors; `severity` is the sum of the counts by default."""
        if not errors:
            return
        self._errors[window] = errors
        self._severity[window] = sum(errors.values()) if severity is None else severity
        self._pairs |= errors.keys()
        if len(self._errors) > 4 * (MOST + MOST_OF_PAIR * len(self._pairs)):
            self._errors = {window: self._errors[window] for window in self._kept()}

    def add_all(self, places: Places) -> None:
        """Add the worst places of a part of a scene."""
        for place in places["places"]:
            errors = {(label, prediction): count for label, prediction, count in place["errors"]}
            row, col, height, width = place["window"]
            self.add(Window(row, col, height, width), errors, place["severity"])

    def _kept(self) -> set[Window]:
        kept = set(self._ranked()[:MOST])
        for pair in self._pairs:
            kept.update(self._ranked_by(pair)[:MOST_OF_PAIR])
        return kept

    def _ranked(self) -> list[Window]:
        """Return the places, worst first, then in row-major order."""
        return sorted(self._errors, key=lambda window: (-self._severity[window], window))

    def _ranked_by(self, pair: Pair) -> list[Window]:
        """Return the places with a kind of error, those with most of it first."""
        counts = {window: errors[pair] for window, errors in self._errors.items() if pair in errors}
        return sorted(counts, key=lambda window: (-counts[window], -self._severity[window], window))

    def to_json(self) -> Places:
        """Return the worst places."""
        kept = self._kept()
        ranked = [window for window in self._ranked() if window in kept]
        position = {window: number for number, window in enumerate(ranked)}
        return {
            "places": [self._place(window) for window in ranked],
            "pairs": [
                (*pair, [position[window] for window in self._ranked_by(pair)[:MOST_OF_PAIR]])
                for pair in sorted(self._pairs)
            ],
        }

    def _place(self, window: Window) -> Place:
        errors = sorted(self._errors[window].items(), key=lambda item: (-item[1], item[0]))
        return {
            "window": list(window),
            "severity": self._severity[window],
            "errors": [[*pair, count] for pair, count in errors],
        }


def on_grid(height: int, width: int, squares: tuple[int, int]) -> Iterator[Window]:
    """Yield windows of at most so many (rows, columns) of squares that partition an image, in row-major order."""
    rows, cols = squares[0] * SIDE_PX, squares[1] * SIDE_PX
    for row in range(0, height, rows):
        for col in range(0, width, cols):
            yield Window(row, col, min(rows, height - row), min(cols, width - col))


def squares_of(window: Window) -> Iterator[Window]:
    """Yield the squares of a window that starts on the grid, relative to it, in row-major order."""
    return on_grid(window.height, window.width, (1, 1))
