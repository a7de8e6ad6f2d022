"""Labels from rasters: class ids or colours, on the image's pixel grid or resampled to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Self, cast

import numpy as np
from numpy.typing import NDArray

from rvbuild.errors import DataError, LabelValueError
from rvbuild.geo.classes import Classes, NamedClasses, id_of, names
from rvbuild.geo.grid import Grid, reproject, same_crs
from rvbuild.geo.labels.decode import UNKNOWN, IdDecoder, Labels, RgbDecoder
from rvbuild.geo.raster.file import Image, Mask
from rvbuild.geo.raster.mosaic_source import RasterSource, open_image
from rvbuild.geo.raster.tags import Apply
from rvbuild.geo.windows import Window
from rvbuild.settings.labels import ReadRasterSettings

_AS_TAGGED = Apply(alpha=True)
"""Label colours have three bands: a band tagged as alpha is a mask."""


class RasterLabels:
    """Class ids from rasters of ids (`encoding = "id"`) or of colours (`encoding = "rgb"`)."""

    notes: Sequence[str] = ()
    voided: tuple[str, str] | None
    """A value or colour of a class that is also the file's nodata value, and that class; None without a conflict."""

    def __init__(
        self, files: Sequence[Path], settings: ReadRasterSettings, grid: Grid, classes: NamedClasses, null_id: int
    ) -> None:
        self.grid = grid
        self._files = list(files)
        self._null_id = null_id
        self._other = UNKNOWN
        if settings.get("other", "error") != "error":
            self._other = id_of(classes, settings["other"], "labels.other")
        colors = settings["encoding"] == "rgb"
        self._source = open_image(files, nodata=settings.get("nodata"), apply=_AS_TAGGED)
        nodata = self._source.nodata
        if colors and self._source.count == 3:
            # Nodata is a colour here, not a value of one band: black as nodata does not void the bands of pure red.
            self._source = open_image(files, nodata=(), apply=_AS_TAGGED)
        try:
            self._place = _place(self._source, files, grid, settings.get("resample", "error"))
            self._decoder: IdDecoder | RgbDecoder
            if colors:
                # Whoever reads colours is given those of the classes, see `label_classes` of `rvbuild.rules.common`.
                colored = cast(Classes, classes)
                self._decoder = RgbDecoder(self._source, colored, self._other, nodata, null_id)
            else:
                self._decoder = IdDecoder(self._source, settings.get("map"), classes, self._other)
            self.voided = (
                None if settings.get("nodata") is not None else _voided(self._decoder, nodata, classes, null_id)
            )
        except BaseException:
            self._source.close()
            raise

    def read(self, window: Window) -> Labels:
        """Return the class ids in a window: (H, W) uint8, the null class where there is no data.

        Raises
        ------
        DataError
            A pixel holds a value or a colour without a class, and `labels.other` is not set.
        """
        return self._read(window)[0]

    def read_valid(self, window: Window) -> tuple[Labels, Mask]:
        """Return the class ids in a window like `read`, and where there is data: (H, W) bool."""
        labels, labelled = self._read(window)
        return labels, np.ones(labels.shape, dtype=bool) if labelled is None else labelled

    def _read(self, window: Window) -> tuple[Labels, Mask | None]:
        """Return what `read_valid` returns; None: there is data everywhere."""
        values: Image
        valid: Mask | None
        if self._place is None:
            values, valid = self._read_nearest(window)
        else:
            values, valid = self._read_in_place(window, self._place)
        labels, some_unknown = self._decoder.decode(values)
        labelled: Mask | None = None if valid is None else np.all(valid, axis=0)
        nothing = self._decoder.nothing(values)
        if nothing is not None:
            labelled = ~nothing if labelled is None else labelled & ~nothing
        if labelled is not None and not labelled.all():
            labels[~labelled] = self._null_id
        if some_unknown and self._other == UNKNOWN and (unknown := labels == UNKNOWN).any():
            message = self._decoder.complain(values, unknown, window, self._files)
            raise LabelValueError(message, self._decoder.count(values, unknown))
        return labels, labelled

    @property
    def source_grid(self) -> Grid:
        """The pixel grid of the rasters."""
        return self._source.grid

    @property
    def in_place(self) -> bool:
        """Whether the rasters have exactly the pixels of the scene."""
        return self._place is not None and self._place == self._source.grid.window

    def unknown(self, values: Image) -> Mask:
        """Tell which of the raw pixels (C, H, W) have a class: (H, W) bool."""
        if len(values) != self._source.count:
            return np.zeros(values.shape[1:], dtype=bool)  # one of them is alpha
        unknown: Mask = self._decoder.decode(values)[0] == UNKNOWN
        for band, nodata in zip(values, self._source.nodata, strict=True):
            if nodata is not None:
                unknown &= band != nodata
        return unknown & np.isfinite(values).all(axis=0)

    def digest(self, window: Window) -> None:
        """Return None: a digest would require reading the pixels."""

    def close(self) -> None:
        """Close all files."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _read_in_place(self, window: Window, place: Window) -> tuple[Image, Mask | None]:
        """Read the labels of a window at the scene's place in them; invalid outside the scene. None: all is valid."""
        here = Window(window.row + place.row, window.col + place.col, window.height, window.width)
        values, valid = self._source.read_data(here)
        if not window.inside(place.height, place.width):
            inside = np.zeros(values.shape, dtype=bool)
            inside[:, *here.intersection(place).slices_in(here)] = True
            valid = inside if valid is None else valid & inside
        return values, valid

    def _read_nearest(self, window: Window) -> tuple[Image, Mask]:
        """Read the label pixel under each pixel centre of the window; invalid outside image and labels."""
        count, (height, width) = self._source.count, (window.height, window.width)
        values = np.zeros((count, height, width), dtype=self._source.dtype)
        valid = np.zeros(values.shape, dtype=bool)
        part = window.clip(self.grid.height, self.grid.width)
        if not (part.height and part.width):
            return values, valid
        rows, cols = self._label_pixels(part)
        labels = self._source.grid
        inside = (rows >= 0) & (rows < labels.height) & (cols >= 0) & (cols < labels.width)
        if not inside.any():
            return values, valid
        row, col = int(rows[inside].min()), int(cols[inside].min())
        needed = Window(row, col, int(rows[inside].max()) - row + 1, int(cols[inside].max()) - col + 1)
        pixels, data = self._source.read(needed)
        at = np.where(inside, rows - row, 0), np.where(inside, cols - col, 0)
        to = (slice(None), *part.slices_in(window))
        values[to], valid[to] = pixels[:, *at], data[:, *at] & inside
        return values, valid

    def _label_pixels(self, part: Window) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the (rows, columns) in the label raster under the pixel centres of `part`, each (H, W)."""
        x, y = np.meshgrid(
            np.arange(part.col, part.col_stop, dtype=np.float64) + 0.5,
            np.arange(part.row, part.row_stop, dtype=np.float64) + 0.5,
        )
        labels = self._source.grid
        map_x, map_y = self.grid.to_map(x.ravel(), y.ravel())
        if labels.crs is not None and self.grid.crs is not None:
            map_x, map_y = reproject(self._files[0], self.grid.crs, labels.crs, map_x, map_y)
            map_x = map_x + labels.turns(map_x)
        col, row = labels.to_pixel(map_x, map_y)
        # A centre on the edge of two label pixels belongs to the right or lower one, despite floating-point noise.
        shape = (part.height, part.width)
        return (
            np.floor(row + 1e-6).clip(-1, labels.height).astype(np.int64).reshape(shape),
            np.floor(col + 1e-6).clip(-1, labels.width).astype(np.int64).reshape(shape),
        )


def _place(source: RasterSource, files: Sequence[Path], grid: Grid, resample: str) -> Window | None:
    """Return the scene's place in its labels, or None if they are on another grid and have to be resampled.

    Labels of the whole image also fit a part of it (`bbox_px`, `bbox_units`).

    Raises
    ------
    DataError
        They have to be resampled, but the project does not allow it, or their place is unknown.
    """
    labels = source.grid
    same_size = (labels.height, labels.width) == (grid.height, grid.width)
    # Without their own CRS and transform, labels of the image's size have the image's place.
    unplaced = labels.crs is None and labels.transform.is_identity
    if same_size and unplaced:
        return labels.window
    if same_crs(labels.crs or grid.crs, grid.crs):
        place = labels.place_of(grid)
        if place is not None and place.inside(labels.height, labels.width):
            return place
    difference = f"labels: {labels.describe()}; image: {grid.describe()}"
    if resample != "nearest":
        raise DataError(
            f"{files[0]}: expected labels on the pixel grid of the image, found another grid ({difference}). Resample "
            'them to the grid of the image, or set `resample = "nearest"` in `labels`'
        )
    if grid.crs is not None and unplaced:
        raise DataError(
            f"{files[0]}: cannot be resampled to the image, because the labels are not georeferenced ({difference})"
        )
    if labels.crs is not None and grid.crs is None:
        raise DataError(
            f"{files[0]}: cannot be resampled to the image, because the image has no CRS ({difference}). Assign one, "
            "for example with `gdal_edit.py -a_srs`"
        )
    return None


def _voided(
    decoder: IdDecoder | RgbDecoder, nodata: Sequence[float | None], classes: NamedClasses, null_id: int
) -> tuple[str, str] | None:
    """Return the nodata value and the class that it stands for; None if it stands for no class."""
    values = [float(each) for each in nodata if each is not None and math.isfinite(each)]
    if len(values) < len(nodata):
        return None
    value, class_id = decoder.class_of(values)
    return None if class_id in (None, null_id) else (value, names(classes)[class_id])
