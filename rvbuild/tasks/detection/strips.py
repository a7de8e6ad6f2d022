"""Strips of rows of a scene in which boxes are found: each has the boxes of the windows that begin in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rvbuild.geo.grid import Grid
from rvbuild.progress import Progress
from rvbuild.tasks.detection.boxes import RAW_BOXES, BoxMerger, join_raw
from rvbuild.tasks.detection.settings import BoxInferSettings
from rvbuild.tasks.strips import Strip

if TYPE_CHECKING:
    from rvbuild.geo.area.aoi import Aoi
    from rvbuild.geo.windows import Window


class BoxStrips:
    """Predicts strips and joins them; see `rvbuild.tasks.strips.Strips`."""

    repeats = False

    def area(self, aoi: Aoi, grid: Grid, window: Window, settings: BoxInferSettings) -> npt.NDArray[np.bool_]:
        """Return the pixels of a window that are in the area of interest, (H, W) bool."""
        return aoi.mask(window)

    def merger(self, grid: Grid, outputs: Path, settings: BoxInferSettings) -> BoxMerger:
        """Return a merger of the windows of a strip."""
        return BoxMerger(grid, outputs, settings)

    def join(
        self, strips: Sequence[Strip], grid: Grid, outputs: Path, settings: BoxInferSettings, progress: Progress
    ) -> None:
        """Write the boxes of all windows of a scene."""
        progress.start("join", 1, "files")
        join_raw([(strip.files[RAW_BOXES], strip.top) for strip in strips], grid, outputs / RAW_BOXES)
        progress.advance()
