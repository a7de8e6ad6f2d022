"""A cell as pictures: in the colour of its label, of its prediction, and marked as wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rvbuild.geo.classes import Classes
from rvbuild.geo.windows import Window
from rvbuild.geo.write.picture import Picture, draw_boxes
from rvbuild.tasks.classification.cells import class_ids, read_cells
from rvbuild.tasks.classification.score import CellReader
from rvbuild.tasks.metrics.places import WRONG
from rvbuild.tasks.protocol import Panels

_FRAME_PX = 6
_ERROR: Classes = [{"id": 0, "name": "wrong", "color": "#{:02x}{:02x}{:02x}".format(*WRONG[:3])}]


def panels(predictions: Path, source: CellReader, classes: Classes) -> Panels:
    """Return a function that draws a cell in a frame of the colour of its label, of its prediction, and of an error."""
    cells = read_cells(predictions)
    ids, known = class_ids(cells), cells.predicted

    def draw(picture: Picture, window: Window) -> tuple[Picture, Picture, Picture]:
        row, column = window.row // cells.cell_px, window.col // cells.cell_px
        truth = source.cell(cells.window(row, column))
        predicted = _framed(picture, classes, int(ids[row, column])) if known[row, column] else picture
        return _framed(picture, classes, truth), predicted, _framed(picture, _ERROR, 0)

    return draw


def _framed(picture: Picture, classes: Classes, class_id: int) -> Picture:
    height, width = picture.shape[:2]
    return draw_boxes(picture, np.array([[0, 0, width, height]]), np.array([class_id]), classes, _FRAME_PX)
