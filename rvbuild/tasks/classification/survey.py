"""The cells of a scene, counted and drawn small."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from rvbuild.errors import LabelValueError
from rvbuild.geo.area.aoi import Aoi
from rvbuild.geo.classes import Classes
from rvbuild.geo.labels.cells import CellLabels
from rvbuild.geo.windows import Window
from rvbuild.geo.write.overview import class_overlay, shown_at

NOTHING = 255
"""In overviews: no cell."""


def survey(
    source: CellLabels, windows: Sequence[Window] | None, aoi: Aoi | None, step: int, classes: Classes
) -> tuple[np.ndarray, np.ndarray, Mapping[str, int]]:
    """Return the cells of each class whose centre lies in the area, an overlay, and values without a class."""
    rows, cols = shown_at(source.grid.height, step), shown_at(source.grid.width, step)
    shown = np.full((len(rows), len(cols)), NOTHING, dtype=np.uint8)
    counts = np.zeros(len(classes), dtype=np.int64)
    unknown: Counter[str] = Counter()
    for window in windows or ():
        if aoi is not None and not aoi.contains_centre(window):
            continue
        try:
            class_id = source.classify(window)
        except LabelValueError as error:
            unknown.update(error.values)
            continue
        counts[class_id] += 1
        top, bottom = np.searchsorted(rows, (window.row, window.row_stop))
        left, right = np.searchsorted(cols, (window.col, window.col_stop))
        shown[top:bottom, left:right] = class_id
    return counts, class_overlay(shown, classes), unknown
