"""Cells as a class for each pixel: that of its cell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rvbuild.geo.classes import NamedClasses
from rvbuild.geo.grid import Grid
from rvbuild.geo.labels.cells import open_cells
from rvbuild.geo.windows import Window
from rvbuild.settings.labels import CellLabelSettings


class CellPixels:
    """The labels of a scene; see `rvbuild.tasks.protocol.PixelLabels`."""

    def __init__(
        self, files: Sequence[Path], settings: CellLabelSettings, grid: Grid, classes: NamedClasses, null_id: int
    ) -> None:
        self._cells = open_cells(files, settings, grid=grid, classes=classes, null_id=null_id)
        self._side = int(settings["cells"]["cell_px"])
        self.notes = self._cells.notes

    def read(self, window: Window) -> npt.NDArray[np.uint8]:
        """Return the class ids of a window inside the scene, (H, W) uint8."""
        ids = np.empty((window.height, window.width), dtype=np.uint8)
        whole = self._around(window)
        for row in range(whole.row, whole.row_stop, self._side):
            for col in range(whole.col, whole.col_stop, self._side):
                cell = Window(row, col, self._side, self._side)
                ids[cell.intersection(window).slices_in(window)] = self._cells.cell(cell)
        return ids

    def digest(self, window: Window) -> str | None:
        """Return a digest of the labels of all cells that share a pixel with a window."""
        return self._cells.digest(self._around(window))

    def close(self) -> None:
        """Close all files."""
        self._cells.close()

    def _around(self, window: Window) -> Window:
        """Return the window of the cells that share a pixel with a window."""
        side = self._side
        row, col = window.row // side * side, window.col // side * side
        row_stop, col_stop = (-(-stop // side) * side for stop in (window.row_stop, window.col_stop))
        return Window(row, col, row_stop - row, col_stop - col)
