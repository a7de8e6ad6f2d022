"""What a model that has not seen the labels of a place says of it: log-odds of classes for each cell of a scene."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rvbuild.learn.linear.head import Head

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

LARGEST = 8.0
"""Log-odds beyond this say no more."""


MOST_READ = 8
"""So many cells are joined, along a side, before cells are skipped."""


class View(NamedTuple):
    """A window of a map, perhaps with cells joined to larger ones."""

    odds: Mapping[int, Doubles]
    """Class → (h, w) log-odds against all others; 0 where nothing is known."""
    labelled: Mapping[int, Doubles]
    """Class → (h, w) the share of each cell that labels of the class cover."""
    known: Doubles
    """(h, w) the share of each cell that counts: in the area of interest, with data."""
    x: Doubles
    """(w + 1,) the lines between columns of cells, in pixels of the scene."""
    y: Doubles
    """(h + 1,) the lines between rows."""


class ScoreMap(NamedTuple):
    """The map of a scene. Its arrays may be memory-mapped."""

    odds: Floats
    """(K, rows, cols)."""
    labelled: NDArray[np.uint8]
    """(K, rows, cols): the share of each cell that labels of each class cover, 0 to 255."""
    known: NDArray[np.uint8]
    """(rows, cols): the share of each cell that counts, 0 to 255."""
    stride_px: int

    def view(self, bounds: Sequence[float], most: int, odds_of: Sequence[int], labelled_of: Sequence[int] = ()) -> View:
        """Return the cells that touch bounds (x0, y0, x1, y1) in pixels, joined to at most `most` on a side.

        `odds_of` and `labelled_of` are the classes that are looked at.
        """
        _, rows, cols = self.odds.shape
        first_col, first_row = (max(0, int(np.floor(bounds[axis] / self.stride_px))) for axis in (0, 1))
        last_col = min(cols, int(np.ceil(bounds[2] / self.stride_px)))
        last_row = min(rows, int(np.ceil(bounds[3] / self.stride_px)))
        last_col, last_row = max(last_col, first_col), max(last_row, first_row)
        # Of huge areas, every second, third … cell is enough, and bounds the memory.
        side = max(last_row - first_row, last_col - first_col)
        step = max(1, side // (MOST_READ * most))
        part = slice(first_row, last_row, step), slice(first_col, last_col, step)
        known = self.known[part].astype(np.float64) / 255
        join = max(1, -(-max(known.shape) // most))
        weight = known if join == 1 else _joined(known, join)

        def planes(of: Sequence[int], values: NDArray[np.generic], scale: float) -> dict[int, Doubles]:
            found = {each: values[each][part].astype(np.float64) / scale for each in dict.fromkeys(of)}
            if join == 1:
                return found
            return {each: _joined(plane * known, join) / np.maximum(weight, 1e-6) for each, plane in found.items()}

        odds, labelled = planes(odds_of, self.odds, 1.0), planes(labelled_of, self.labelled, 255.0)
        if join > 1:
            weight = weight / (join * join)
        size = self.stride_px * join * step
        height, width = weight.shape
        return View(
            odds,
            labelled,
            weight,
            first_col * self.stride_px + size * np.arange(width + 1, dtype=np.float64),
            first_row * self.stride_px + size * np.arange(height + 1, dtype=np.float64),
        )


def _joined(values: Doubles, join: int) -> Doubles:
    """Return the sums of squares of `join` cells; beyond the last ones are zeros."""
    height, width = (-(-length // join) for length in values.shape)
    padded = np.zeros((height * join, width * join))
    padded[: values.shape[0], : values.shape[1]] = values
    sums: Doubles = padded.reshape(height, join, width, join).sum(axis=(1, 3))
    return sums


def log_odds(head: Head, features: NDArray[np.int8], classes: int) -> Floats:
    """Return the log-odds (N, K) of every class against all others, of the features (N, F) of cells."""
    scores = head.scores(features).astype(np.float64)
    top = scores.max(axis=1, keepdims=True)
    powers = np.exp(scores - top)
    total = powers.sum(axis=1, keepdims=True)
    rest = np.maximum(total - powers, np.finfo(np.float64).tiny)
    odds = np.full((len(features), classes), -LARGEST, dtype=np.float32)
    odds[:, list(head.class_ids)] = np.clip(np.log(np.maximum(powers, 1e-300)) - np.log(rest), -LARGEST, LARGEST)
    return odds


class Strip(NamedTuple):
    """Some rows of cells of a map."""

    odds: Floats
    """(K, h, cols)."""
    labelled: NDArray[np.uint8]
    """(K, h, cols)."""
    known: NDArray[np.uint8]
    """(h, cols)."""


def make_map(
    path: Path | None,
    shape: tuple[int, int, int],
    stride_px: int,
    rows: Sequence[int],
    strip: Callable[[int], Strip],
) -> ScoreMap:
    """Return a map that is written strip by strip.

    Parameters
    ----------
    path
        A folder for its arrays, which are memory-mapped; None to hold them in memory.
    shape
        (K, rows, cols).
    stride_px
        The side of a cell.
    rows
        The first row of cells of each strip.
    strip
        Returns a strip by its number.
    """
    if path is None:
        odds, known = np.zeros(shape, dtype=np.float32), np.zeros(shape[1:], dtype=np.uint8)
        labelled = np.zeros(shape, dtype=np.uint8)
    else:
        odds = np.lib.format.open_memmap(path / "odds.npy", mode="w+", dtype=np.float32, shape=shape)
        labelled = np.lib.format.open_memmap(path / "labelled.npy", mode="w+", dtype=np.uint8, shape=shape)
        known = np.lib.format.open_memmap(path / "known.npy", mode="w+", dtype=np.uint8, shape=shape[1:])
    for number, first in enumerate(rows):
        part = strip(number)
        last = first + len(part.known)
        odds[:, first:last], labelled[:, first:last], known[first:last] = part
    # Plain arrays of the same memory: those of numpy's class for files take long to cut.
    return ScoreMap(np.asarray(odds), np.asarray(labelled), np.asarray(known), stride_px)
