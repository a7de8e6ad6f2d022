"""Strips of rows of a scene of cells: each has the rows of cells that begin in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rvbuild.geo.grid import Grid
from rvbuild.geo.windows import Window
from rvbuild.progress import Progress
from rvbuild.tasks.classification.cells import CELLS, CellMerger, no_cells, read_cells, write_cells
from rvbuild.tasks.classification.settings import CellInferSettings
from rvbuild.tasks.strips import Strip

if TYPE_CHECKING:
    from rvbuild.geo.area.aoi import Aoi


class CellStrips:
    """Predicts strips and joins them; see `rvbuild.tasks.strips.Strips`."""

    repeats = False

    def area(self, aoi: Aoi, grid: Grid, window: Window, settings: CellInferSettings) -> npt.NDArray[np.bool_]:
        """Return the pixels of a window that are in the area of interest and in a cell whose centre is, (H, W) bool."""
        mask, px = aoi.mask(window).copy(), settings["predict"]["cell_px"]
        for row in range(window.row // px * px, window.row_stop, px):
            for col in range(window.col // px * px, window.col_stop, px):
                cell = Window(row, col, px, px)
                if not aoi.contains_centre(cell):
                    mask[window.intersection(cell).slices_in(window)] = False
        return mask

    def merger(self, grid: Grid, outputs: Path, settings: CellInferSettings) -> CellMerger:
        """Return a merger of the cells of a strip."""
        return CellMerger(grid, outputs, settings)

    def join(
        self, strips: Sequence[Strip], grid: Grid, outputs: Path, settings: CellInferSettings, progress: Progress
    ) -> None:
        """Write the cells of a scene."""
        progress.start("join", len(strips), "strips")
        parts = [(read_cells(strip.files[CELLS]), strip.top) for strip in strips]
        px, output_ids = parts[0][0].cell_px, parts[0][0].output_ids
        joined = no_cells(grid, px, output_ids)
        for cells, top in parts:
            rows = joined.scores[top // px :][: len(cells.scores)]
            rows[cells.predicted] = cells.scores[cells.predicted]
            progress.advance()
        write_cells(outputs / CELLS, joined)
