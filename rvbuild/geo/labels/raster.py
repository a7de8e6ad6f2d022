"""Labels from rasters: class ids or colours, on the image's pixel grid or resampled to it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self, cast

import numpy as np
from numpy.typing import NDArray

from rvbuild.errors import DataError, LabelValueError
from rvbuild.geo.classes import Classes, NamedClasses, id_of, names, rgb
from rvbuild.geo.grid import Grid, reproject, same_crs
from rvbuild.geo.raster import palettes
from rvbuild.geo.raster.file import Image, Mask
from rvbuild.geo.raster.mosaic_source import RasterSource, open_image
from rvbuild.geo.raster.tags import Apply
from rvbuild.geo.windows import Window
from rvbuild.settings.labels import ReadRasterSettings

Labels = NDArray[np.uint8]

_UNKNOWN = 255
"""Marks a value without a class; class ids end at 254."""

_RGB_CODES = 1 << 24

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
        self._other = _UNKNOWN
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
            self._decoder: _IdDecoder | _RgbDecoder
            if colors:
                # Whoever reads colours is given those of the classes, see `label_classes` of `rvbuild.rules.common`.
                colored = cast(Classes, classes)
                self._decoder = _RgbDecoder(self._source, colored, self._other, nodata, null_id)
            else:
                self._decoder = _IdDecoder(self._source, settings.get("map"), classes, self._other)
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
        return self.read_valid(window)[0]

    def read_valid(self, window: Window) -> tuple[Labels, Mask]:
        """Return the class ids in a window like `read`, and where there is data: (H, W) bool."""
        if self._place is None:
            values, valid = self._read_nearest(window)
        else:
            values, valid = self._read_in_place(window, self._place)
        labels = self._decoder.decode(values)
        labelled: Mask = np.all(valid, axis=0)
        nothing = self._decoder.nothing(values)
        if nothing is not None:
            labelled = labelled & ~nothing
        if not labelled.all():
            labels[~labelled] = self._null_id
        if self._other == _UNKNOWN and (unknown := labels == _UNKNOWN).any():
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
        unknown: Mask = self._decoder.decode(values) == _UNKNOWN
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

    def _read_in_place(self, window: Window, place: Window) -> tuple[Image, Mask]:
        """Read the labels of a window at the scene's place in them; invalid outside the scene."""
        here = Window(window.row + place.row, window.col + place.col, window.height, window.width)
        values, valid = self._source.read(here)
        if not window.inside(place.height, place.width):
            inside = np.zeros(valid.shape[1:], dtype=bool)
            inside[here.intersection(place).slices_in(here)] = True
            valid = valid & inside
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
    decoder: _IdDecoder | _RgbDecoder, nodata: Sequence[float | None], classes: NamedClasses, null_id: int
) -> tuple[str, str] | None:
    """Return the nodata value and the class that it stands for; None if it stands for no class."""
    values = [float(each) for each in nodata if each is not None and math.isfinite(each)]
    if len(values) < len(nodata):
        return None
    value, class_id = decoder.class_of(values)
    return None if class_id in (None, null_id) else (value, names(classes)[class_id])


class _IdDecoder:
    """From pixel values to class ids, by a table where the dtype is small, else by the distinct values."""

    def __init__(
        self, source: RasterSource, mapping: Mapping[str, str] | None, classes: NamedClasses, other: int
    ) -> None:
        if source.count != 1:
            raise DataError(
                f"{source.files[0]}: expected one band of class ids, found {source.count}. If it holds colours, set "
                '`encoding = "rgb"` in `labels`'
            )
        if mapping is None:
            self._ids = {index: index for index in range(len(classes))}
        else:
            self._ids = {_pixel_value(key): id_of(classes, name, f"labels.map.{key}") for key, name in mapping.items()}
        self._expected = "a class id" if mapping is None else "a key of `labels.map`"
        self._names = names(classes)
        self._other = other
        dtype = source.dtype
        self._table: Labels | None = None
        self._lowest = 0
        if dtype.kind in "iu" and dtype.itemsize <= 2:
            limits = np.iinfo(dtype)
            self._lowest = int(limits.min)
            self._table = np.full(int(limits.max) - self._lowest + 1, other, dtype=np.uint8)
            for value, class_id in self._ids.items():
                if limits.min <= value <= limits.max:
                    self._table[value - self._lowest] = class_id

    def decode(self, values: Image) -> Labels:
        """Return the class ids of (1, H, W) pixel values: (H, W) uint8."""
        if self._table is not None:
            pixels = values[0] if self._lowest == 0 else values[0].astype(np.int32) - self._lowest
            known: Labels = np.take(self._table, pixels)
            return known
        distinct, inverse = np.unique(values[0], return_inverse=True)
        table = np.array([self._ids.get(value, self._other) for value in distinct.tolist()], dtype=np.uint8)
        labels: Labels = table[inverse.reshape(values[0].shape)]
        return labels

    def class_of(self, value: Sequence[float]) -> tuple[str, int | None]:
        """Return a pixel for messages, and its class, None if it has none."""
        return f"{value[0]:g}", self._ids.get(int(value[0])) if value[0] == int(value[0]) else None

    def nothing(self, values: Image) -> None:
        """Return None: only pixels without data have no label."""

    def complain(self, values: Image, unknown: Mask, window: Window, files: Sequence[Path]) -> str:
        """Return the message about the first value without a class."""
        row, col = (int(index) for index in np.argwhere(unknown)[0])
        value = values[0, row, col]
        count = int(np.count_nonzero(unknown & (values[0] == value)))
        where = _where(files, count, window, row, col)
        return (
            f"{where} the label value {value}, expected {self._expected}: {', '.join(map(str, self._ids))} "
            f'({", ".join(self._names)}). Map it with `map = {{ {value} = "class" }}`, make it nodata with '
            f'`nodata = {value}`, or map all such values to a class with `other = "class"` in `labels`'
        )

    def count(self, values: Image, unknown: Mask) -> dict[str, int]:
        """Count the pixels of each value without a class."""
        distinct, counts = np.unique(values[0][unknown], return_counts=True)
        return {str(value): int(count) for value, count in zip(distinct, counts, strict=True)}


class _RgbDecoder:
    """From colours to class ids, by one table over all colours."""

    def __init__(
        self, source: RasterSource, classes: Classes, other: int, nodata: Sequence[float | None], null_id: int
    ) -> None:
        self._nothing: int | None = None
        self._palette: NDArray[np.uint8] | None = None
        if source.count == 1:
            self._palette = palettes.shared(source.files, {rgb(item["color"]) for item in classes})
        if self._palette is None and (source.dtype != np.uint8 or source.count != 3):
            raise DataError(
                f"{source.files[0]}: expected three uint8 bands (red, green, blue), or one with a colour table; found "
                f'{source.count} of {source.dtype}. If it holds class ids, set `encoding = "id"` in `labels`'
            )
        self._colors = {item["color"]: item["name"] for item in classes}
        self._table = np.full(_RGB_CODES, other, dtype=np.uint8)
        for index, item in enumerate(classes):
            red, green, blue = rgb(item["color"])
            self._table[red << 16 | green << 8 | blue] = index
        if self._palette is None and None not in nodata:
            red, green, blue = (int(value) for value in nodata if value is not None)
            self._nothing = red << 16 | green << 8 | blue
            self._table[self._nothing] = null_id

    def decode(self, values: Image) -> Labels:
        """Return the class ids of (3, H, W) colours or (1, H, W) palette indices: (H, W) uint8."""
        labels: Labels = np.take(self._table, self._codes(values))
        return labels

    def class_of(self, value: Sequence[float]) -> tuple[str, int | None]:
        """Return a pixel for messages, and its class, None if it has none."""
        if self._palette is not None and not 0 <= int(value[0]) < len(self._palette):
            return f"{value[0]:g}", None
        red, green, blue = (int(each) for each in (value if self._palette is None else self._palette[int(value[0])]))
        color = f"#{red:02x}{green:02x}{blue:02x}"
        shown = color if self._palette is None else f"{value[0]:g}"
        return shown, next((index for index, known in enumerate(self._colors) if known == color), None)

    def nothing(self, values: Image) -> Mask | None:
        """Return which pixels have the nodata colour, if there is one; they have no label either."""
        return None if self._nothing is None else self._codes(values) == self._nothing

    def complain(self, values: Image, unknown: Mask, window: Window, files: Sequence[Path]) -> str:
        """Return the message about the first colour without a class."""
        row, col = (int(index) for index in np.argwhere(unknown)[0])
        codes = self._codes(values)
        code = int(codes[row, col])
        count = int(np.count_nonzero(unknown & (codes == code)))
        where = _where(files, count, window, row, col)
        known = ", ".join(f"{color} ({name})" for color, name in self._colors.items())
        return (
            f"{where} the colour #{code:06x}, expected the colour of a class: {known}. "
            'Map all such colours to a class with `other = "class"` in `labels`'
        )

    def count(self, values: Image, unknown: Mask) -> dict[str, int]:
        """Count the pixels of each colour without a class."""
        distinct, counts = np.unique(self._codes(values)[unknown], return_counts=True)
        return {f"#{code:06x}": int(count) for code, count in zip(distinct, counts, strict=True)}

    def _codes(self, values: Image) -> NDArray[np.intp]:
        if self._palette is not None:
            values = np.moveaxis(self._palette[values[0]], -1, 0)
        codes: NDArray[np.intp] = values[0].astype(np.intp)
        for band in (values[1], values[2]):
            codes <<= 8
            codes |= band
        return codes


def _pixel_value(key: str) -> int:
    try:
        return int(key)
    except ValueError:
        raise DataError(f'labels.map: expected whole numbers as keys, found "{key}"') from None


def _where(files: Sequence[Path], count: int, window: Window, row: int, col: int) -> str:
    name = str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
    pixels = "1 pixel has" if count == 1 else f"{count} pixels have"
    return (
        f"{name}: in the window at row {window.row}, column {window.col} ({window.height} x {window.width} px) "
        f"{pixels}, first at row {window.row + row}, column {window.col + col},"
    )
