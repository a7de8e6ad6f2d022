"""The scores of a prediction as a value for each pixel, from the files that tasks write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.windows import Window as RasterioWindow

from rvbuild.geo.windows import Window
from rvbuild.settings.classes import ClassName
from rvbuild.tasks.classification.cells import CELLS, Cells, read_cells

Doubles = npt.NDArray[np.float64]


ScoresOf = Callable[[Window], dict[int, Doubles]]
"""Returns the scores of the pixels of a window by class id, (H, W) each, nan where there is no prediction."""


def open_scores(path: Path, classes: Sequence[ClassName]) -> ScoresOf:
    """Return a function that reads the scores of windows inside the scene.

    Parameters
    ----------
    path
        A raster of scores of segmentation, or the `cells.json` of chip classification, whose pixels have the scores of
        their cell.
    classes
        For the names of a raster's bands.
    """
    if path.name != CELLS:
        return lambda window: _of_raster(path, window, classes)
    cells = read_cells(path)
    return lambda window: _of_cells(cells, window)


def _of_cells(cells: Cells, window: Window) -> dict[int, Doubles]:
    rows = np.arange(window.row, window.row_stop) // cells.cell_px
    cols = np.arange(window.col, window.col_stop) // cells.cell_px
    scores = cells.scores[np.ix_(rows, cols)].astype(np.float64)
    return {class_id: scores[..., number] for number, class_id in enumerate(cells.output_ids)}


def _of_raster(path: Path, window: Window, classes: Sequence[ClassName]) -> dict[int, Doubles]:
    ids = {item["name"]: int(item["id"]) for item in classes}
    part = RasterioWindow(window.col, window.row, window.width, window.height)
    scores = {}
    with rasterio.open(path) as file:
        predicted = file.dataset_mask(window=part) > 0
        for band, name in enumerate(file.descriptions, start=1):
            values = file.read(band, window=part).astype(np.float64) * file.scales[band - 1]
            scores[ids[name]] = np.where(predicted, values, np.nan)
    return scores
