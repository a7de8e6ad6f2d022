"""Class probabilities of overlapping windows blended into a scene, block by block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rvbuild.geo.windows import Window
from rvbuild.geo.write.columns import Columns

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Sink = Callable[[int, int, Any, Bools], None]

BLOCK_PX = 1 << 18
"""The pixels that are finished at once between windows: the copies that this needs stay small."""


class Blender:
    """Blends windows that come in row-major order from a regular grid of squares.

    Three ways to blend:

    * "none": each pixel is taken from the window whose centre is nearest, the upper or left one of two that are equally
      near.
    * "mean": each pixel is the mean over the windows that hold it.
    * "cosine": a weighted mean; the weight of a window falls as a squared sine from its centre to its edges, and is
      positive everywhere.

    The sums of a pixel are made in the order of the windows, so the result does not depend on how windows are batched.

    A row of windows is one pass from left to right. What lies left of the window at hand and above the next row of
    windows is finished, and goes; what lies below is carried to the next pass: (K + 1) x (size - stride) x width
    float32, in a temporary file if that is much. So memory grows neither with the height nor with the width of a scene.
    """

    def __init__(
        self,
        height: int,
        width: int,
        outputs: int,
        size: int,
        stride: int,
        blend: str,
        sink: Sink,
        folder: Path | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        """Prepare for a scene.

        Parameters
        ----------
        height, width
            Of the scene in pixels.
        outputs
            K, the number of model outputs.
        size, stride
            Of the windows in pixels; they lie at multiples of the stride.
        blend
            "none", "mean" or "cosine".
        sink
            Receives finished blocks, each pixel once: first row and column, probabilities (K, h, w) float32, and which
            pixels are predicted (h, w) bool. Probabilities where nothing is predicted are 0. Blocks come in bands of
            the same rows, from left to right, bands from top to bottom. The arrays are valid during the call.
        folder
            For a temporary file; None for the directory of temporary files.
        dtype
            Of what is blended; with "none" it need not be probabilities.
        """
        self._height, self._width, self._size, self._stride, self._sink = height, width, size, stride, sink
        self._kernel = cosine_weights(size) if blend == "cosine" else None
        rows, cols = min(size, height), min(size, width)
        weighted = blend != "none"
        # Rows from `_row`: of the window at hand, from column `_col`; and under all windows, from the earlier passes
        # right of it, for the next pass left of it.
        self._dtype = dtype
        self._work = _Sums.zeros(outputs, rows, cols, weighted, dtype)
        self._carry = _Carried(outputs, max(0, rows - stride), width, weighted, folder, dtype)
        self._row = self._col = 0

    def add(self, window: Window, probabilities: npt.NDArray[Any], keep: Bools) -> None:
        """Blend one window in.

        Parameters
        ----------
        window
            A window of the grid, not before the last one in row-major order; it may overhang the scene.
        probabilities
            (K, size, size) float32.
        keep
            (size, size) bool: the pixels that are to be predicted.
        """
        if (window.row, window.col) < (self._row, self._col):
            raise ValueError(
                f"windows must come in row-major order, got {window} after row {self._row}, column {self._col}"
            )
        if window.row > self._row:
            self._end_pass(window.row)
        self._advance(window.col)
        row_stop, col_stop = min(self._size, self._height - window.row), min(self._size, self._width - window.col)
        row = col = 0
        if self._work.weights is None:
            row, row_stop = owned(window.row, self._height, self._size, self._stride)
            col, col_stop = owned(window.col, self._width, self._size, self._stride)
        here = np.s_[row:row_stop, col:col_stop]
        part, sums, weights = probabilities[:, *here], self._work.sums[:, *here], self._work.weights
        if weights is None:
            sums[...] = part
        elif self._kernel is None:
            sums += part
            weights[here] += 1
        else:
            sums += part * self._kernel[here]
            weights[here] += self._kernel[here]
        self._work.known[here] |= keep[here]

    def finish(self) -> None:
        """Give all that is left to the sink."""
        self._end_pass(self._height)

    def _advance(self, col: int) -> None:
        """Move the current window to a column: pixels to its left are finished, or carried to the next pass."""
        wide, rows = self._work.known.shape[1], min(self._stride, self._size, self._height - self._row)
        while self._col < col:
            step = min(col - self._col, wide)
            left = slice(0, min(step, self._width - self._col))
            self._give(self._row, self._col, self._work, np.s_[:rows, left])
            self._carry.put(self._col, self._work, np.s_[self._stride :, left])
            self._work.shift(step)
            self._col += step
            self._load(self._col + wide - step, step)

    def _load(self, col: int, count: int) -> None:
        """Add the carried sums, in `count` columns from `col`, to the last columns of the current window."""
        stop = min(col + count, self._width)
        if stop > col:
            wide = self._work.known.shape[1]
            there = np.s_[: self._carry.rows, wide - count : wide - count + stop - col]
            self._work.put(there, self._carry.take(slice(0, self._carry.rows), col, stop))

    def _end_pass(self, row: int) -> None:
        """Finish all rows above `row`, and begin the pass of the windows there."""
        self._advance(self._width)
        done = min(self._row + min(self._stride, self._size), self._height)
        # Rows that no row of windows begins in: at the end, or where windows were left out.
        carried = min(self._carry.rows, row - done)
        cols = max(1, BLOCK_PX // max(1, carried))
        for col in range(0, self._width, cols) if carried > 0 else ():
            rest = self._carry.take(slice(0, carried), col, min(col + cols, self._width))
            self._give(done, col, rest, np.s_[:, :])
        block = max(1, BLOCK_PX // self._width)
        for first in range(done + max(0, carried), row, block):
            rows = min(block, row - first)
            nothing = _Sums.zeros(len(self._work.sums), rows, self._width, False, self._dtype)
            self._give(first, 0, nothing, np.s_[:, :])
        self._carry.shift_up(row - done)
        self._row, self._col = row, 0
        self._work.clear()
        self._load(0, self._work.known.shape[1])

    def _give(self, row: int, col: int, source: _Sums, where: tuple[slice, slice]) -> None:
        """Give the finished pixels of `source` at `where` to the sink."""
        sums, known = source.sums[:, *where], source.known[where]
        if not known.size:
            return
        # In place: these sums are not needed again.
        if source.weights is not None:
            weights = source.weights[where]
            np.divide(sums, weights, out=sums, where=weights > 0)
        if not known.all():
            np.copyto(sums, 0, where=~known)
        self._sink(row, col, sums, known)


@dataclass
class _Sums:
    """Sums of probabilities (K, h, w), what is predicted (h, w), and sums of weights (h, w) unless they are all 1."""

    sums: npt.NDArray[Any]
    known: Bools
    weights: Floats | None

    @classmethod
    def zeros(cls, outputs: int, height: int, width: int, weighted: bool, dtype: npt.DTypeLike) -> _Sums:
        """Return sums of nothing."""
        sums = np.zeros((outputs, height, width), dtype=dtype)
        weights = np.zeros((height, width), dtype=np.float32) if weighted else None
        return cls(sums, np.zeros((height, width), dtype=bool), weights)

    def planes(self) -> list[npt.NDArray[np.generic]]:
        """Return all planes (h, w)."""
        return [*self.sums, self.known, *([] if self.weights is None else [self.weights])]

    def put(self, where: tuple[slice, slice], source: _Sums) -> None:
        """Replace the values at `where`."""
        self.sums[:, *where] = source.sums
        self.known[where] = source.known
        if self.weights is not None and source.weights is not None:
            self.weights[where] = source.weights

    def shift(self, cols: int) -> None:
        """Move everything to the left, with empty columns on the right."""
        for plane in self.planes():
            plane[:, : plane.shape[1] - cols] = plane[:, cols:]
            plane[:, plane.shape[1] - cols :] = 0

    def clear(self) -> None:
        """Make everything empty."""
        for plane in self.planes():
            plane[...] = 0


class _Carried:
    """Sums of the full width of a scene, below the current row of windows."""

    def __init__(
        self, outputs: int, rows: int, width: int, weighted: bool, folder: Path | None, dtype: npt.DTypeLike
    ) -> None:
        self.rows = rows
        self._sums = Columns(outputs + weighted, rows, width, dtype, folder)
        """With the weights as the last plane."""
        self._known = Columns(1, rows, width, bool, folder)
        self._weighted = weighted

    def put(self, col: int, source: _Sums, there: tuple[slice, slice]) -> None:
        """Replace the values of the columns from `col` by those of `source` at `there`."""
        sums = source.sums[:, *there]
        if source.weights is not None:
            sums = np.concatenate([sums, source.weights[np.newaxis, *there]])
        self._sums.write(slice(0, self.rows), col, sums)
        self._known.write(slice(0, self.rows), col, source.known[np.newaxis, *there])

    def take(self, rows: slice, col: int, stop: int) -> _Sums:
        """Return a copy of some rows and columns."""
        sums, known = self._sums.read(rows, col, stop), self._known.read(rows, col, stop)[0]
        return _Sums(sums[:-1], known, sums[-1]) if self._weighted else _Sums(sums, known, None)

    def shift_up(self, rows: int) -> None:
        """Move everything up, with empty rows below."""
        self._sums.shift_up(rows)
        self._known.shift_up(rows)


def cosine_weights(size: int) -> Floats:
    """Return the weights of a window's pixels: (size, size) float32, the product of sin² along both axes, never 0."""
    # Half a pixel off the edge, where sin² would be 0.
    line = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    return np.outer(line, line).astype(np.float32)


def owned(start: int, length: int, size: int, stride: int) -> tuple[int, int]:
    """Return the part of a window, along one axis, whose nearest window centre is its own.

    Parameters
    ----------
    start
        Where the window starts, a multiple of the stride.
    length
        Of the axis in pixels.
    size, stride
        Of the windows in pixels.

    Returns
    -------
    int, int
        First pixel, and first pixel after the last, counted from the start of the window.

    Notes
    -----
    Twice the distance of pixel p, counted from the window, to the centre of the window n strides away is
    |2 p + 1 - size - 2 n stride|. So p is nearer to this window than to the next one if 2 p + 1 <= size + stride, and
    nearer than to the one before if 2 p + 1 > size - stride.
    """
    first = 0 if start == 0 else max(0, (size - stride + 1) // 2)
    last_window = start + size >= length
    stop = size if last_window else min(size, (size + stride - 1) // 2 + 1)
    return first, min(stop, length - start)
