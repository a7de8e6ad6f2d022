"""Labels of a scene as class ids per pixel, read window by window, from any kind of source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from rvbuild.geo.classes import NamedClasses
from rvbuild.geo.grid import Grid
from rvbuild.geo.windows import Window
from rvbuild.settings.labels import LabelSettings


class LabelSource(Protocol):
    """Labels on the pixel grid of a scene; a context manager. Not thread-safe: open one for each thread."""

    grid: Grid
    notes: Sequence[str]
    """Repairs and omissions when the labels were read, a line each, for users."""

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Return the class ids in a window: (H, W) uint8, the null class outside the scene and without a label."""

    def digest(self, window: Window) -> str | None:
        """Return a digest of the labels in and around a window: equal digests mean equal class ids; None if unknown."""

    def close(self) -> None:
        """Close all files."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


def open_labels(
    files: Sequence[Path], settings_labels: LabelSettings, *, grid: Grid, classes: NamedClasses, null_id: int
) -> LabelSource:
    """Open the labels of a scene.

    Parameters
    ----------
    files
        Rasters (one, or several as a mosaic) or vector files (read one after the other).
    settings_labels
        The label settings of the project; its `kind` is `raster`, `vector`, or `layers` of both.
    grid
        Grid of the scene's image, which the labels are returned on.
    classes, null_id
        All classes in id order, and the id of the null class.

    Raises
    ------
    DataError
        The files do not fit the image or the classes. Values are checked when they are read.
    """
    if settings_labels["kind"] == "raster":
        from rvbuild.geo.labels.raster import RasterLabels

        return RasterLabels(files, settings_labels, grid, classes, null_id)
    if settings_labels["kind"] == "vector":
        from rvbuild.geo.labels.vector import VectorLabels

        return VectorLabels(files, settings_labels, grid, classes, null_id)
    if settings_labels["kind"] == "layers":
        from rvbuild.geo.labels.layers import LayeredLabels

        return LayeredLabels(files, settings_labels, grid, classes, null_id)
    raise ValueError(f"labels of kind {settings_labels['kind']!r} have no class per pixel")
