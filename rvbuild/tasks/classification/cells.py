"""The predicted cells of a scene as one file, `cells.json`: the raw result, which evaluation reads too.

`{"grid": {"height", "width", "transform": [a, b, c, d, e, f], "crs": WKT or null}, "cell_px", "outputs": [class ids],
"cells": [[row, column, score, …], …]}`: the grid is that of the scene's pixels, rows and columns count cells, and there
is a score for each output, as short as it is exact in float32. Cells without a prediction are left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine

from rvbuild.errors import DataError, ModelError
from rvbuild.geo.classes import NODATA
from rvbuild.geo.grid import Grid
from rvbuild.geo.windows import Window, starts
from rvbuild.tasks.classification.settings import CellInferSettings
from rvbuild.tasks.metrics.tables import without_null

CELLS = "cells.json"

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Cells:
    """The cells of a scene."""

    grid: Grid
    """Of the scene's pixels."""
    cell_px: int
    output_ids: list[int]
    """The class id of each score."""
    scores: Floats
    """(rows, columns, K) float32 probabilities; NaN in cells without a prediction."""

    @property
    def cell_grid(self) -> Grid:
        """The grid whose pixels are the cells; its last row and column may overhang the scene."""
        rows, columns = self.scores.shape[:2]
        return Grid(rows, columns, self.grid.transform * Affine.scale(self.cell_px), self.grid.crs)

    @property
    def predicted(self) -> npt.NDArray[np.bool_]:
        """(rows, columns) bool: which cells have a prediction."""
        known: npt.NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(self.scores), axis=-1)
        return known

    def window(self, row: int, column: int) -> Window:
        """Return the pixels of a cell."""
        return Window(row * self.cell_px, column * self.cell_px, self.cell_px, self.cell_px)


def no_cells(grid: Grid, cell_px: int, output_ids: list[int]) -> Cells:
    """Return all cells of a scene, none of them predicted."""
    rows, columns = len(starts(grid.height, cell_px, cell_px)), len(starts(grid.width, cell_px, cell_px))
    return Cells(grid, cell_px, output_ids, np.full((rows, columns, len(output_ids)), np.nan, dtype=np.float32))


def merger(grid: Grid, outputs: Path, settings: CellInferSettings) -> CellMerger:
    """Return a merger that writes to the directory `outputs`; `settings` are those of the infer stage."""
    return CellMerger(grid, outputs, settings)


class CellMerger:
    """Gathers the probabilities of cells and writes them at the end.

    Memory: 4 bytes for each cell and class.
    """

    def __init__(self, grid: Grid, outputs: Path, settings: CellInferSettings) -> None:
        output_ids = [item["id"] for item in without_null(settings["classes"], settings["null_id"])]
        self._cells = no_cells(grid, settings["predict"]["cell_px"], output_ids)
        self._path = outputs / CELLS

    def add(self, window: Window, prediction: Floats, valid: npt.NDArray[np.bool_]) -> None:
        """Add the probabilities (K,) float32 of a cell; the result does not depend on which pixels are valid."""
        if not np.isfinite(prediction).all():
            raise ModelError(
                f"the model gave values that are not finite for the cell at row {window.row}, column {window.col}; "
                "expected probabilities. Its weights have probably diverged: train with a lower lr"
            )
        self._cells.scores[window.row // self._cells.cell_px, window.col // self._cells.cell_px] = prediction

    def finish(self) -> None:
        """Write `cells.json`."""
        write_cells(self._path, self._cells)


def write_cells(path: Path, cells: Cells) -> None:
    """Write `cells.json`, a cell a line."""
    head = {
        "grid": cells.grid.as_json(),
        "cell_px": cells.cell_px,
        "outputs": cells.output_ids,
    }
    places = np.argwhere(cells.predicted)
    lines = [
        json.dumps([*place, *scores])
        for place, scores in zip(places.tolist(), shortest(cells.scores[cells.predicted]), strict=True)
    ]
    text = json.dumps(head)[:-1] + ', "cells": [\n' + ",\n".join(lines) + "\n]}\n"
    path.write_text(text, encoding="utf-8")


def read_cells(path: Path) -> Cells:
    """Read a `cells.json`.

    Raises
    ------
    DataError
        The file was not written by `write_cells`.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        cells = no_cells(Grid.from_json(content["grid"]), content["cell_px"], content["outputs"])
        for row, column, *scores in content["cells"]:
            cells.scores[row, column] = scores
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"{path}: cannot be read as predicted cells ({error}); predict the scene again") from error
    return cells


def class_ids(cells: Cells) -> npt.NDArray[np.uint8]:
    """Return the class of each cell, (rows, columns) uint8, 255 where there is no prediction.

    It is the one of the highest probability, the first of several that are equally high.
    """
    ids = np.array(cells.output_ids, dtype=np.uint8)
    return np.where(cells.predicted, ids[cells.scores.argmax(axis=-1)], np.uint8(NODATA))


def shortest(scores: Floats) -> list[list[float]]:
    """Return float32 scores as the shortest decimals that are the same in float32.

    >>> shortest(np.array([[0.1, 0.9]], dtype=np.float32))
    [[0.1, 0.9]]
    """
    decimals: list[list[float]] = scores.astype(str).astype(np.float64).tolist()
    return decimals
