"""The cells that a project classifies, by the map of a draft: the mean probabilities of the pixels of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rvbuild.geo.grid import Grid
from rvbuild.learn.encoders.encoder import Floats
from rvbuild.tasks.classification.cells import no_cells, write_cells

STEPS = 1 << 16
"""Probabilities are added as whole multiples of one over this: exact in any order."""


class PooledCells:
    """Gathers the probabilities of a scene, strip by strip.

    Parameters
    ----------
    grid
        Of the pixels of the scene.
    cell_px
        The side of the cells that are classified.
    stride_px
        The side of the cells of features.
    output_ids
        The classes that a cell may have, by id.
    drafted_ids
        Those that the draft has.
    """

    def __init__(
        self, grid: Grid, cell_px: int, stride_px: int, output_ids: Sequence[int], drafted_ids: Sequence[int]
    ) -> None:
        self._cells = no_cells(grid, cell_px, list(output_ids))
        self._stride = stride_px
        self._outputs = [self._cells.output_ids.index(class_id) for class_id in drafted_ids]
        rows, columns = self._cells.scores.shape[:2]
        self._columns = _shared(0, -(-grid.width // stride_px), stride_px, grid.width, cell_px, columns)
        self._sums = np.zeros((len(drafted_ids), rows, columns))
        self._pixels = np.zeros((rows, columns))

    def add(self, first_row: int, probabilities: Floats, known: npt.NDArray[np.bool_]) -> None:
        """Add the probabilities (K, h, w) of a strip of cells of features; those that are `known`, (h, w), count."""
        height = self._cells.grid.height
        rows = _shared(first_row, known.shape[0], self._stride, height, self._cells.cell_px, len(self._pixels))
        steps = np.rint(probabilities.astype(np.float64) * STEPS) * known
        # Whole numbers below 2^53: exact however BLAS adds.
        self._sums += rows.T @ steps @ self._columns
        self._pixels += rows.T @ known.astype(np.float64) @ self._columns

    def write(self, path: Path) -> None:
        """Write them as predicted cells; those without data have no prediction."""
        some = self._pixels > 0
        means = self._sums[:, some] / (STEPS * self._pixels[some])
        scores = np.zeros((means.shape[1], len(self._cells.output_ids)), dtype=np.float32)
        scores[:, self._outputs] = means.T
        self._cells.scores[some] = scores
        write_cells(path, self._cells)


def _shared(first: int, count: int, stride: int, length: int, side: int, cells: int) -> npt.NDArray[np.float64]:
    """Return how many lines of pixels (count, cells) each cell of features shares with each of the other cells."""
    starts = stride * np.arange(first, first + count)[:, np.newaxis]
    stops = np.minimum(starts + stride, length)
    others = side * np.arange(cells)
    shared = np.minimum(stops, others + side) - np.maximum(starts, others)
    return np.asarray(np.maximum(shared, 0), dtype=np.float64)
