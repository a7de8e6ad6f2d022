"""Class probabilities of overlapping windows blended into rows of a scene, one band of rows at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from rvbuild.geo.windows import Window

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Sink = Callable[[int, Floats, Bools], None]

BLOCK_PX = 1 << 18
"""The pixels that are finished at once: the copies that this needs stay small beside the band."""


class Blender:
    """Blends windows that come in row-major order from one grid of squares.

    Three ways to blend:

    * "none": each pixel is taken from the window whose centre is nearest, the upper or left one of two that are equally
      near.
    * "mean": each pixel is the mean over the windows that hold it.
    * "cosine": a weighted mean; the weight of a window falls as a squared sine from its centre to its edges, and is
      positive everywhere.

    The sums of a pixel are made in the order of the windows, so the result does not depend on how windows are batched.
    Memory: (K + 1) x size x width float32, whatever the height of the scene.
    """

    def __init__(self, height: int, width: int, outputs: int, size: int, stride: int, blend: str, sink: Sink) -> None:
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
            Receives finished rows from top to bottom, each once: the first row, probabilities (K, h, width) float32,
            and which pixels are predicted (h, width) bool. Probabilities where nothing is predicted are 0. The arrays
            are valid during the call.
        """
        self._height, self._width, self._size, self._stride, self._sink = height, width, size, stride, sink
        rows = min(size, height)
        self._sums = np.zeros((outputs, rows, width), dtype=np.float32)
        self._known = np.zeros((rows, width), dtype=bool)
        self._weights = None if blend == "none" else np.zeros((rows, width), dtype=np.float32)
        self._kernel = cosine_weights(size) if blend == "cosine" else None
        self._row = 0

    def add(self, window: Window, probabilities: Floats, keep: Bools) -> None:
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
        if window.row < self._row:
            raise ValueError(f"windows must come in row-major order, got {window} after row {self._row}")
        if window.row > self._row:
            self._finish_rows(window.row)
        row_stop, col_stop = min(self._size, self._height - window.row), min(self._size, self._width - window.col)
        row = col = 0
        if self._weights is None:
            row, row_stop = owned(window.row, self._height, self._size, self._stride)
            col, col_stop = owned(window.col, self._width, self._size, self._stride)
        here = np.s_[row:row_stop, col:col_stop]
        there = np.s_[row:row_stop, window.col + col : window.col + col_stop]
        part, sums = probabilities[:, *here], self._sums[:, *there]
        if self._weights is None:
            sums[...] = part
        elif self._kernel is None:
            sums += part
            self._weights[there] += 1
        else:
            sums += part * self._kernel[here]
            self._weights[there] += self._kernel[here]
        self._known[there] |= keep[here]

    def finish(self) -> None:
        """Give the remaining rows to the sink."""
        self._finish_rows(self._height)

    def _finish_rows(self, stop: int) -> None:
        """Give all rows above `stop` to the sink and move the band down to it."""
        rows = min(stop - self._row, len(self._known))
        block = max(1, BLOCK_PX // self._width)
        for start in range(0, rows, block):
            here = slice(start, min(start + block, rows))
            sums, known = self._sums[:, here], self._known[here]
            if self._weights is not None:
                weights = self._weights[here]
                np.divide(sums, weights, out=sums, where=weights > 0)
            self._sink(self._row + start, np.where(known, sums, np.float32(0)), known)
        self._shift(rows)
        # Rows between two rows of windows: with a stride above the size, or where windows were left out.
        for row in range(self._row + rows, stop, block):
            known = np.zeros((min(block, stop - row), self._width), dtype=bool)
            self._sink(row, np.zeros((len(self._sums), *known.shape), dtype=np.float32), known)
        self._row = stop

    def _shift(self, rows: int) -> None:
        """Move the band up by `rows`, with empty rows below."""
        for plane in (*self._sums, self._known, *([] if self._weights is None else [self._weights])):
            plane[: len(plane) - rows] = plane[rows:]
            plane[len(plane) - rows :] = 0


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
