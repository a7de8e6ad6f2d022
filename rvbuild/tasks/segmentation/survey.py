"""The labels of a segmentation scene, counted block by block and drawn small."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from rvbuild.errors import LabelValueError
from rvbuild.geo.area.aoi import Aoi
from rvbuild.geo.classes import Classes
from rvbuild.geo.labels.open import LabelSource
from rvbuild.geo.windows import Window, sliding
from rvbuild.geo.write.overview import class_overlay, shown_at

BLOCK_PX = 1024

NOTHING = 255
"""In overviews: no label, or none that counts."""


def survey(
    source: LabelSource, windows: Sequence[Window] | None, aoi: Aoi | None, step: int, classes: Classes
) -> tuple[np.ndarray, np.ndarray, Mapping[str, int]]:
    """Return the pixels of each class, an overlay, and the values without a class.

    In a block with such values nothing else is counted.
    """
    grid = source.grid
    rows, cols = shown_at(grid.height, step), shown_at(grid.width, step)
    shown = np.full((len(rows), len(cols)), NOTHING, dtype=np.uint8)
    counts = np.zeros(len(classes), dtype=np.int64)
    unknown: Counter[str] = Counter()
    for block in sliding(grid.height, grid.width, BLOCK_PX, BLOCK_PX):
        window = block.clip(grid.height, grid.width)
        try:
            ids = source.read(window)
        except LabelValueError as error:
            unknown.update(error.values)
            continue
        if aoi is not None and not aoi.contains(window):
            ids = np.where(aoi.mask(window), ids, np.uint8(NOTHING))
        counts += np.bincount(ids.ravel(), minlength=NOTHING + 1)[: len(classes)]
        inside = [
            np.flatnonzero((places >= start) & (places < stop))
            for places, start, stop in ((rows, window.row, window.row_stop), (cols, window.col, window.col_stop))
        ]
        shown[np.ix_(*inside)] = ids[np.ix_(rows[inside[0]] - window.row, cols[inside[1]] - window.col)]
    return counts, class_overlay(shown, classes), unknown
