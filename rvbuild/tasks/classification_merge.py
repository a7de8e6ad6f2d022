"""The predicted cells of a scene as files: vectors, rasters with a pixel for each cell, and `cells.json`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from rvbuild.errors import ModelError
from rvbuild.geo.classes import NODATA
from rvbuild.geo.grid import Grid
from rvbuild.geo.outputs import ClassRasterWriter, RgbRasterWriter, ScoreRasterWriter
from rvbuild.geo.polygons import write_features
from rvbuild.geo.windows import Window
from rvbuild.tasks.classification_cells import CELLS, Cells, no_cells, shortest, write_cells

LABELS = "labels.tif"
SCORES = "scores.tif"
COLORS = "rgb.tif"
VECTORS = {"geojson": "cells.geojson", "gpkg": "cells.gpkg"}


def merger(grid: Grid, outputs: Path, settings: Mapping[str, Any]) -> CellMerger:
    """Return a merger that writes into the directory `outputs`; `settings` are those of the predict stage."""
    return CellMerger(grid, outputs, settings)


class CellMerger:
    """Gathers the probabilities of cells and writes them at the end.

    The class of a cell is the one of the highest probability, the first of several that are equally high. Memory: 4
    bytes for each cell and class.
    """

    def __init__(self, grid: Grid, outputs: Path, settings: Mapping[str, Any]) -> None:
        self._predict, self._classes, self._outputs = settings["predict"], settings["classes"], outputs
        self._trained = [c for c in self._classes if c["id"] != settings["null_id"]]
        self._cells = no_cells(grid, self._predict["cell_px"], [c["id"] for c in self._trained])

    def add(self, window: Window, prediction: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> None:
        """Take the probabilities (K,) float32 of a cell; of which of its pixels are valid nothing depends."""
        if not np.isfinite(prediction).all():
            raise ModelError(
                f"the model gave values that are not finite for the cell at row {window.row}, column {window.col}; "
                "expected probabilities. Its weights have probably diverged: train with a lower lr"
            )
        self._cells.scores[window.row // self._cells.cell_px, window.col // self._cells.cell_px] = prediction

    def finish(self) -> None:
        """Write all files."""
        cells, grid = self._cells, self._cells.cell_grid
        labels = class_ids(cells)
        with ClassRasterWriter(self._outputs / LABELS, grid, self._classes, temp=self._outputs) as raster:
            raster.write(0, labels)
        if self._predict["scores"]:
            kind = self._predict["scores"]
            with ScoreRasterWriter(self._outputs / SCORES, grid, self._trained, kind, temp=self._outputs) as raster:
                raster.write(0, np.moveaxis(cells.scores, -1, 0), cells.predicted)
        if self._predict["rgb"]:
            with RgbRasterWriter(self._outputs / COLORS, grid, self._classes, temp=self._outputs) as raster:
                raster.write(0, labels)
        write_cells(self._outputs / CELLS, cells)
        # The pixels of `grid` are the cells: their corners are those of the scene's pixels, exactly.
        places = np.argwhere(cells.predicted)
        squares = shapely.box(places[:, 1], places[:, 0], places[:, 1] + 1, places[:, 0] + 1)
        fields = {"class_id": int, "class_name": str, "score": float, "row": int, "column": int}
        fields |= {f"score_{item['name']}": float for item in self._trained}
        path = self._outputs / VECTORS[self._predict["cells"]]
        write_features(path, squares, grid, self._properties(labels, places), fields)

    def _properties(self, labels: npt.NDArray[np.uint8], places: npt.NDArray[np.intp]) -> list[dict[str, Any]]:
        """Return what is said of each predicted cell, in row-major order."""
        names = {c["id"]: str(c["name"]) for c in self._trained}
        properties = []
        for (row, column), scores in zip(
            places.tolist(), shortest(self._cells.scores[self._cells.predicted]), strict=True
        ):
            class_id = int(labels[row, column])
            each = {f"score_{name}": score for name, score in zip(names.values(), scores, strict=True)}
            properties.append(
                {
                    "class_id": class_id,
                    "class_name": names[class_id],
                    "score": max(scores),
                    "row": row,
                    "column": column,
                    **each,
                }
            )
        return properties


def class_ids(cells: Cells) -> npt.NDArray[np.uint8]:
    """Return the class of each cell, (rows, columns) uint8, 255 where there is no prediction."""
    ids = np.array(cells.output_ids, dtype=np.uint8)
    return np.where(cells.predicted, ids[cells.scores.argmax(axis=-1)], np.uint8(NODATA))
