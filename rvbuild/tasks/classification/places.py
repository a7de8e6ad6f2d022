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

_FRAME_PX = 6
_ERROR: Classes = [{"id": 0, "name": "wrong", "color": "#{:02x}{:02x}{:02x}".format(*WRONG[:3])}]


def panels(
    picture: Picture, predictions: Path, source: CellReader, window: Window, classes: Classes
) -> tuple[Picture, Picture, Picture]:
    """Return the picture of a cell in a frame of the colour of its label, of its prediction, and of an error."""
    cells = read_cells(predictions)
    row, column = window.row // cells.cell_px, window.col // cells.cell_px
    truth = source.cell(cells.window(row, column))
    predicted = class_ids(cells)[row, column] if cells.predicted[row, column] else None
    frame = np.array([[0, 0, window.width, window.height]])

    def framed(classes: Classes, class_id: int) -> Picture:
        return draw_boxes(picture, frame, np.array([class_id]), classes, _FRAME_PX)

    return (
        framed(classes, truth),
        picture if predicted is None else framed(classes, int(predicted)),
        framed(_ERROR, 0),
    )
