"""Boxes as a class for each pixel: that of the smallest box around its centre, null outside of all boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rvbuild.geo.classes import NamedClasses
from rvbuild.geo.grid import Grid
from rvbuild.geo.labels.boxes import open_boxes
from rvbuild.geo.windows import Window
from rvbuild.settings.labels import AnyVectorSettings, BoxFileSettings


class BoxPixels:
    """The labels of a scene; see `rvbuild.tasks.protocol.PixelLabels`."""

    def __init__(
        self,
        files: Sequence[Path],
        settings: AnyVectorSettings | BoxFileSettings,
        grid: Grid,
        classes: NamedClasses,
        null_id: int,
    ) -> None:
        self._labels = open_boxes(files, settings, grid=grid, classes=classes, null_id=null_id)
        self._null_id = null_id
        self.notes = self._labels.notes

    def read(self, window: Window) -> npt.NDArray[np.uint8]:
        """Return the class ids of a window, (H, W) uint8."""
        ids = np.full((window.height, window.width), self._null_id, dtype=np.uint8)
        seen = self._labels.read(window)
        sides = seen.boxes[:, 2:] - seen.boxes[:, :2]
        for place in np.argsort(-sides.prod(axis=1), kind="stable"):
            # Pixels whose centre is inside.
            x0, y0, x1, y1 = (max(0, int(value)) for value in np.ceil(seen.boxes[place] - 0.5))
            ids[y0:y1, x0:x1] = seen.classes[place]
        return ids

    def digest(self, window: Window) -> str:
        """Return a digest of the boxes that touch a window."""
        return self._labels.digest(window)

    def close(self) -> None:
        """Close all files."""
        self._labels.close()
