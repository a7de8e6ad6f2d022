"""From the pixels of label rasters to class ids: ids, colours, and indices of a table of colours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rvbuild.errors import DataError
from rvbuild.geo.classes import Classes, NamedClasses, id_of, names, rgb
from rvbuild.geo.raster import palettes
from rvbuild.geo.raster.file import Image, Mask
from rvbuild.geo.raster.mosaic_source import RasterSource
from rvbuild.geo.windows import Window

Labels = NDArray[np.uint8]

UNKNOWN = 255
"""Marks a value without a class; class ids end at 254."""

_RGB_CODES = 1 << 24

_RUN_PX = 4
"""Pixels are looked up run by run if a run is at least this long on average."""


def by_runs(values: Image, look_up: Callable[[Image], Labels]) -> tuple[Labels, bool]:
    """Return the class ids of pixels, each run of equal pixels looked up once: labels are areas of one value.

    Parameters
    ----------
    values
        (C, H, W).
    look_up
        Returns the ids (n,) uint8 of some pixels (C, n).

    Returns
    -------
    Labels
        (H, W) uint8.
    bool
        Whether some of them are `UNKNOWN`.
    """
    pixels = values.reshape(len(values), -1)
    # Where runs start, and the end of the last one.
    starts = np.ones(pixels.shape[1] + 1, dtype=bool)
    inner = starts[1:-1]
    np.not_equal(pixels[0, 1:], pixels[0, :-1], out=inner)
    for band in pixels[1:]:
        inner |= band[1:] != band[:-1]
    (at,) = starts.nonzero()
    if len(at) * _RUN_PX > len(starts):
        distinct = labels = look_up(pixels)
    else:
        distinct = look_up(pixels.take(at[:-1], axis=1))
        labels = distinct.repeat(at[1:] - at[:-1])
    return labels.reshape(values.shape[1:]), bool((distinct == UNKNOWN).any())


class IdDecoder:
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

    def decode(self, values: Image) -> tuple[Labels, bool]:
        """Return the class ids of (1, H, W) pixel values, (H, W) uint8, and whether some are `UNKNOWN`."""
        return by_runs(values, self._look_up)

    def _look_up(self, values: Image) -> Labels:
        if self._table is not None:
            pixels = values[0] if self._lowest == 0 else values[0].astype(np.int32) - self._lowest
            known: Labels = np.take(self._table, pixels)
            return known
        distinct, inverse = np.unique(values[0], return_inverse=True)
        table = np.array([self._ids.get(value, self._other) for value in distinct.tolist()], dtype=np.uint8)
        labels: Labels = table[inverse]
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


class RgbDecoder:
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
        # How far an id is above that of other colours, modulo 256. So most of it is 0, and takes no memory.
        self._above = np.zeros(_RGB_CODES, dtype=np.uint8)
        self._other = np.uint8(other)
        for index, item in enumerate(classes):
            self._above[_code(rgb(item["color"]))] = (index - other) % 256
        if self._palette is None and None not in nodata:
            self._nothing = _code([int(value) for value in nodata if value is not None])
            self._above[self._nothing] = (null_id - other) % 256

    def decode(self, values: Image) -> tuple[Labels, bool]:
        """Return the class ids of (3, H, W) colours or (1, H, W) palette indices; see `IdDecoder.decode`."""
        return by_runs(values, self._look_up)

    def _look_up(self, values: Image) -> Labels:
        labels: Labels = np.take(self._above, self._codes(values))
        labels += self._other
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


def _code(color: Sequence[int]) -> int:
    red, green, blue = color
    return red << 16 | green << 8 | blue


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
