"""Files derived from `cells.json`: the cells as vectors, and as rasters with a pixel for each cell."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from rvbuild.files.formats import SUFFIXES
from rvbuild.geo.classes import Classes
from rvbuild.geo.grid import Grid
from rvbuild.geo.write.overview import Overlay, class_overlay, shown_at
from rvbuild.geo.write.qgis import write_raster_style, write_score_style, write_vector_style
from rvbuild.geo.write.rasters import ClassRasterWriter, RgbRasterWriter, ScoreRasterWriter
from rvbuild.geo.write.vectors.features import write_features
from rvbuild.progress import Progress
from rvbuild.tasks.classification.cells import CELLS, Cells, class_ids, read_cells, shortest
from rvbuild.tasks.classification.settings import CellDeriveSettings
from rvbuild.tasks.metrics.tables import without_null

LABELS = "labels.tif"
SCORES = "scores.tif"
COLORS = "rgb.tif"


def derive(raw: Mapping[str, Path], settings: CellDeriveSettings, outputs: Path, progress: Progress) -> None:
    """Write the files of one scene; see `rvbuild.tasks.protocol.Task.derive`."""
    predict, classes = settings["predict"], settings["classes"]
    trained = without_null(classes, settings["null_id"])
    progress.start("derive", 2 + bool(predict["scores"]) + predict["rgb"], "files")
    cells = read_cells(raw[CELLS])
    grid, labels = cells.cell_grid, class_ids(cells)
    with ClassRasterWriter(outputs / LABELS, grid, classes, temp=outputs) as raster:
        raster.write(0, labels)
    write_raster_style(outputs / LABELS, trained)
    progress.advance()
    if predict["scores"]:
        with ScoreRasterWriter(outputs / SCORES, grid, trained, predict["scores"], temp=outputs) as raster:
            raster.write(0, np.moveaxis(cells.scores, -1, 0), cells.predicted)
        write_score_style(outputs / SCORES, len(trained), predict["scores"])
        progress.advance()
    if predict["rgb"]:
        with RgbRasterWriter(outputs / COLORS, grid, classes, temp=outputs) as raster:
            raster.write(0, labels)
        progress.advance()
    # The pixels of `grid` are the cells: their corners are exactly corners of the scene's pixels.
    places = np.argwhere(cells.predicted)
    squares = shapely.box(places[:, 1], places[:, 0], places[:, 1] + 1, places[:, 0] + 1)
    fields = {"class_id": int, "class_name": str, "score": float, "row": int, "column": int}
    fields |= {f"score_{item['name']}": float for item in trained}
    path = outputs / f"cells{SUFFIXES[predict['cells']]}"
    write_features(path, squares, grid, _properties(cells, labels, places, trained), fields)
    write_vector_style(path, trained)
    progress.advance()


def arrays(raw: Mapping[str, Path], settings: CellDeriveSettings) -> dict[str, np.ndarray]:
    """Return `class_ids` (rows, columns) uint8, 255 without a prediction, `scores` (K, rows, columns) float32,
    NaN there, and `cell_px` (), the side of a cell in pixels.
    """
    cells = read_cells(raw[CELLS])
    return {
        "class_ids": class_ids(cells),
        "scores": np.moveaxis(cells.scores, -1, 0),
        "cell_px": np.array(cells.cell_px),
    }


def overlay(predictions: Path, grid: Grid, step: int, classes: Classes) -> Overlay:
    """Return the class of the cell of each of an overview's pixels; see `rvbuild.tasks.protocol.Task.overlay`."""
    cells = read_cells(predictions)
    rows, cols = (shown_at(length, step) // cells.cell_px for length in (grid.height, grid.width))
    return class_overlay(class_ids(cells)[np.ix_(rows, cols)], classes)


def _properties(
    cells: Cells, labels: npt.NDArray[np.uint8], places: npt.NDArray[np.intp], trained: Classes
) -> list[dict[str, Any]]:
    """Return the attributes of each predicted cell, in row-major order."""
    names = {item["id"]: item["name"] for item in trained}
    properties = []
    for (row, column), scores in zip(places.tolist(), shortest(cells.scores[cells.predicted]), strict=True):
        class_id = int(labels[row, column])
        by_class = {f"score_{name}": score for name, score in zip(names.values(), scores, strict=True)}
        properties.append(
            {
                "class_id": class_id,
                "class_name": names[class_id],
                "score": max(scores),
                "row": row,
                "column": column,
                **by_class,
            }
        )
    return properties
