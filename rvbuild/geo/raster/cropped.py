"""A part of an image: `bbox_px` or `bbox_units`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rvbuild.errors import DataError
from rvbuild.geo.grid import Grid
from rvbuild.geo.raster.file import Image, Mask
from rvbuild.geo.raster.layer import Layer
from rvbuild.geo.windows import Window
from rvbuild.settings.image import MapBox, PixelBox

SNAP_PX = 0.001
"""Bounds in map units that are this near to the edge of a pixel mean it: they were rounded when they were written."""


class Cropped(Layer):
    """A part of an image, as an image; nothing outside is read."""

    def __init__(self, source: Layer, window: Window) -> None:
        super().__init__(
            source.grid.crop(window),
            dtype=source.dtype,
            nodata=source.nodata,
            descriptions=source.descriptions,
            files=source.files,
        )
        self._source = source
        self._window = window

    def read_raw(self, window: Window) -> tuple[Image, Mask]:
        """Read a window; see `Layer.read_raw`."""
        row, col = window.row + self._window.row, window.col + self._window.col
        if window.inside(self.grid.height, self.grid.width):
            return self._source.read_raw(Window(row, col, window.height, window.width))
        shape = (self.count, window.height, window.width)
        image, valid = np.zeros(shape, dtype=self.dtype), np.zeros(shape, dtype=bool)
        part = window.clip(self.grid.height, self.grid.width)
        if part.height and part.width:
            rows, cols = part.slices_in(window)
            there = Window(part.row + self._window.row, part.col + self._window.col, part.height, part.width)
            image[:, rows, cols], valid[:, rows, cols] = self._source.read_raw(there)
        return image, valid

    def read_data(self, window: Window) -> tuple[Image, Mask | None]:
        """Read a window; see `Layer.read_data`."""
        if not window.inside(self.grid.height, self.grid.width):
            return super().read_data(window)
        row, col = window.row + self._window.row, window.col + self._window.col
        return self._source.read_data(Window(row, col, window.height, window.width))

    def read_sample(self, window: Window, step: int) -> tuple[Image, Mask]:
        """Read a sample of a window; see `Layer.read_sample`."""
        row, col = window.row + self._window.row, window.col + self._window.col
        return self._source.read_sample(Window(row, col, window.height, window.width), step)

    def sample_reads_all(self) -> bool:
        """Tell whether a coarse sample costs all pixels; see `Layer.sample_reads_all`."""
        return self._source.sample_reads_all()

    def cache_bytes(self, rows: int, cols: int) -> int:
        """Return the bytes of decoded blocks; see `Layer.cache_bytes`."""
        return self._source.cache_bytes(rows, cols)

    def close(self) -> None:
        """Close all files."""
        self._source.close()


def window_of(bbox: PixelBox | MapBox, grid: Grid, files: Sequence[Path]) -> Window:
    """Return the window of a grid that a box means.

    Parameters
    ----------
    bbox
        `{"px": [x min, y min, x max, y max]}`, in columns and rows, the maxima not included; or `{"units": [...]}` of
        the same order, in map units: every pixel of which some part is inside, as far as the image goes.
    grid
        Of the whole image.
    files
        Of the image, for messages.

    Raises
    ------
    DataError
        The box reaches beyond the image (pixels), or shares no pixel with it (map units).
    """
    if "px" in bbox:
        where = f"{files[0]}: bbox_px = {_listed(bbox['px'])}"
        x, y, x_stop, y_stop = (int(value) for value in bbox["px"])
        window = Window(y, x, y_stop - y, x_stop - x)
        if not window.inside(grid.height, grid.width):
            raise DataError(
                f"{where} reaches beyond the image, which has {grid.width} x {grid.height} px (width x height); "
                f"expected [x min, y min, x max, y max] within [0, 0, {grid.width}, {grid.height}]"
            )
        return window
    where = f"{files[0]}: bbox_units = {_listed(bbox['units'])}"
    west, south, east, north = (float(value) for value in bbox["units"])
    col, row = grid.to_pixel(np.array([west, east, east, west]), np.array([south, south, north, north]))
    first_col, first_row = (int(np.floor(values.min() + SNAP_PX)) for values in (col, row))
    col_stop, row_stop = (int(np.ceil(values.max() - SNAP_PX)) for values in (col, row))
    asked = Window(first_row, first_col, row_stop - first_row, col_stop - first_col)
    window = asked.clip(grid.height, grid.width)
    if not (window.height and window.width):
        covers = _listed(grid.bounds(grid.window))
        raise DataError(
            f"{where} shares no pixel with the image, which covers {covers} ([x min, y min, x max, y max]; "
            f"{grid.describe()}). The box is in units of the image's CRS"
        )
    return window


def _listed(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:.12g}' for value in values)}]"
