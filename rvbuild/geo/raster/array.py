"""An image that is in memory: arrays, read window by window as a file is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from affine import Affine

from rvbuild.errors import DataError
from rvbuild.geo.grid import Grid
from rvbuild.geo.raster.file import Image, Mask
from rvbuild.geo.raster.layer import Layer
from rvbuild.geo.windows import Window

NAME = Path("<array>")
"""What messages call it."""


class ArrayImage(Layer):
    """An image in memory. It may be read by several threads, and closing it does nothing.

    Parameters
    ----------
    image
        (C, H, W) of any dtype that rasters have.
    valid
        (H, W) or (C, H, W) bool: where there are data; None: everywhere. NaN and infinite values never count as data.
    grid
        The pixel grid; by default without georeference.

    Raises
    ------
    DataError
        An array is of another shape, or the image of a dtype that no raster has.
    """

    def __init__(self, image: np.ndarray, valid: np.ndarray | None = None, grid: Grid | None = None) -> None:
        if image.ndim != 3 or 0 in image.shape or image.dtype.kind not in "iuf":
            raise DataError(
                f"expected an array (bands, rows, columns) of integers or real numbers; found {image.shape} of "
                f"{image.dtype}"
            )
        bands, height, width = image.shape
        grid = Grid(height, width, Affine.identity(), None) if grid is None else grid
        if (grid.height, grid.width) != (height, width):
            raise DataError(f"expected an array of the size of the grid, {grid.describe()}; found {image.shape}")
        known = np.ones((height, width), dtype=bool) if valid is None else np.asarray(valid)
        if known.dtype != bool or known.shape not in ((height, width), image.shape):
            raise DataError(
                f"expected a mask of booleans, (rows, columns) or (bands, rows, columns), for an image of "
                f"{image.shape}; found {known.shape} of {known.dtype}"
            )
        names = [f"band {band}" for band in range(1, bands + 1)]
        super().__init__(grid, dtype=image.dtype, nodata=[None] * bands, descriptions=names, files=[NAME])
        known = np.broadcast_to(known, image.shape)
        self._image = image
        self._valid = known & np.isfinite(image) if image.dtype.kind == "f" else known

    def read_raw(self, window: Window) -> tuple[Image, Mask]:
        """Read a window; see `Layer.read_raw`."""
        shape = (self.count, window.height, window.width)
        image, valid = np.zeros(shape, dtype=self.dtype), np.zeros(shape, dtype=bool)
        part = window.clip(self.grid.height, self.grid.width)
        if part.height and part.width:
            there, here = part.slices_in(window), part.slices_in(self.grid.window)
            image[:, *there] = self._image[:, *here]
            valid[:, *there] = self._valid[:, *here]
        return image, valid

    def cache_bytes(self, rows: int, cols: int) -> int:
        """Return 0: GDAL decodes nothing."""
        return 0

    def close(self) -> None:
        """Do nothing: there is no file."""
