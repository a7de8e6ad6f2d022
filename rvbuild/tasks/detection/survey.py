"""The boxes of a scene, counted and drawn small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rvbuild.geo.area.aoi import Aoi
from rvbuild.geo.classes import Classes
from rvbuild.geo.labels.boxes import BoxLabels
from rvbuild.geo.windows import Window
from rvbuild.geo.write.overview import shown_at
from rvbuild.geo.write.picture import draw_boxes


def survey(
    source: BoxLabels, windows: Sequence[Window] | None, aoi: Aoi | None, step: int, classes: Classes
) -> tuple[np.ndarray, np.ndarray, Mapping[str, int]]:
    """Return the boxes of each class whose centre lies in the area, an overlay of them, and no unknown values."""
    boxes, ids = source.boxes, source.classes
    if aoi is not None:
        rows, cols = np.floor((boxes[:, 1] + boxes[:, 3]) / 2), np.floor((boxes[:, 0] + boxes[:, 2]) / 2)
        places = zip(rows.astype(int).tolist(), cols.astype(int).tolist(), strict=True)
        inside = np.array([aoi.contains_centre(Window(row, col, 1, 1)) for row, col in places], dtype=bool)
        boxes, ids = boxes[inside], ids[inside]
    counts = np.bincount(ids, minlength=len(classes)).astype(np.int64)
    shape = (len(shown_at(source.grid.height, step)), len(shown_at(source.grid.width, step)))
    # Drawn twice, on black and on white: where both agree, there is a line.
    black, white = (draw_boxes(np.full((*shape, 3), v, dtype=np.uint8), boxes / step, ids, classes) for v in (0, 255))
    opacity = np.where((black == white).all(axis=-1), np.uint8(255), np.uint8(0))
    return counts, np.concatenate([black, opacity[..., np.newaxis]], axis=-1), {}
