"""Which values of pixels mean nodata: those that GDAL takes for it.

A nodata value is text in most files, and is often rounded there. GDAL takes reals for nodata that are near it, and so
does everything that shows its masks. Here are the same values without a second read of the pixels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rvbuild.errors import DataError

Nodata = float | None
NodataSetting = float | Sequence[float | None] | None
"""What a project says of nodata: nothing (the file's own value counts), one value, or one value per band; an empty
sequence says that no value means nodata, whatever the file says."""

Ranges = tuple[tuple[Any, Any], ...]
"""The lowest and the highest value of each range of values that mean nodata."""

_EXACT = 1 << 53
"""The largest range of whole numbers that a float represents exactly."""


@functools.lru_cache(maxsize=1024)
def ranges(value: float, dtype: np.dtype[Any]) -> Ranges:
    """Return the values that mean nodata if `value` does.

    Notes
    -----
    For whole numbers that is the value alone. For reals it is what `ARE_REAL_EQUAL` of GDAL calls equal:
    |x - value| < 2 ε |x + value|, where ε is that of float32 for float64, too. Where x + value is beyond the range of
    the dtype, the right side is infinite: the lowest float32 is nodata if -3.4e38 is.

    >>> ranges(255.0, np.dtype(np.uint8))
    ((np.uint8(255), np.uint8(255)),)
    >>> [low, high] = ranges(-3.4e38, np.dtype(np.float32))[0]
    >>> bool(low == np.finfo(np.float32).min), f"{high:.1g}"
    (True, '-3e+35')
    """
    nodata = dtype.type(value)
    if dtype.kind != "f" or not np.isfinite(nodata):
        return ((nodata, nodata),)
    # A power of two changes nothing but where numbers become infinite.
    scale, twice = dtype.type(0.25 if abs(nodata) > 1 else 1), dtype.type(2)
    epsilon = dtype.type(np.finfo(np.float32).eps)

    def near(x: Any) -> bool:
        a, b = x * scale, nodata * scale
        return bool(a == b or abs(a - b) < epsilon * abs(a + b) * twice)

    def beyond(x: Any) -> bool:
        return bool(np.isinf(x + nodata))

    sign = dtype.type(-1 if nodata < 0 else 1)
    limit = np.finfo(dtype).max * sign
    with np.errstate(all="ignore"):
        pairs_of_limits = [(_last(near, nodata, -limit), _last(near, nodata, limit))]
        if beyond(limit):
            pairs_of_limits.append((_last(beyond, limit, nodata * 0), limit))
    pairs = sorted((min(pair), max(pair)) for pair in pairs_of_limits)
    if len(pairs) == 2 and pairs[1][0] <= pairs[0][1]:
        pairs = [(pairs[0][0], max(pairs[0][1], pairs[1][1]))]
    return tuple(pairs)


def _last(holds: Callable[[Any], bool], start: Any, stop: Any) -> Any:
    """Return the last number from `start` towards `stop` for which a monotonous condition holds."""
    dtype = np.dtype(type(start))
    yes, no = _position(start), _position(stop)
    if holds(stop):
        return stop
    while abs(no - yes) > 1:
        middle = (yes + no) // 2
        if holds(_number(middle, dtype)):
            yes = middle
        else:
            no = middle
    return _number(yes, dtype)


def _position(number: Any) -> int:
    """Return the place of a real among all of its dtype, counted from zero."""
    bits = int(abs(number).view(f"u{number.dtype.itemsize}"))
    return -bits if number < 0 else bits


def _number(position: int, dtype: np.dtype[Any]) -> Any:
    number = np.array(abs(position), dtype=f"u{dtype.itemsize}").view(dtype)[()]
    return -number if position < 0 else number


def per_band(
    path: Path, dataset: Any, indexes: Sequence[int], plain: Sequence[int], dtype: np.dtype[Any], setting: NodataSetting
) -> tuple[Nodata, ...]:
    """Return the nodata values of some bands of a dataset; None if there are none.

    Parameters
    ----------
    path, dataset
        The open file.
    indexes
        The bands, from 1.
    plain
        The bands of the file that are not alpha: a list of values may be for them alone.
    dtype
        Of the bands.
    setting
        The setting of the project.

    Raises
    ------
    DataError
        The setting does not fit the bands or their dtype.
    """
    if setting is None:
        with np.errstate(over="ignore"):  # rasterio compares the value with the limits of float32
            values_of_file = dataset.nodatavals
        return tuple(_of_file(values_of_file[index - 1], dtype) for index in indexes)
    if isinstance(setting, int | float):
        values: dict[int, Nodata] = dict.fromkeys(indexes, setting)
    elif not setting:
        values = {}
    else:
        named = plain if len(setting) == len(plain) else list(dataset.indexes)
        if len(setting) != len(named):
            raise DataError(
                f"{path}: nodata: expected one value or one per band, {dataset.count} for the bands "
                f"{band_list(dataset)}; found {len(setting)}"
            )
        values = dict(zip(named, setting, strict=True))
    for index in indexes:
        value = values.get(index)
        if value is not None and not _occurs(value, dtype):
            raise DataError(f"{path}: nodata: {float(value):.15g} cannot occur in {dtype} pixels (band {index - 1})")
        if value is not None and dtype.itemsize == 8 and dtype.kind in "iu" and abs(value) > _EXACT:
            raise DataError(
                f"{path}: nodata: {float(value):.15g} has no exact {dtype} value (band {index - 1}); expected one "
                "between -2^53 and 2^53. Leave nodata out to use the file's own value, which is exact"
            )
    return tuple(values.get(index) for index in indexes)


def band_list(dataset: Any) -> str:
    """Return the bands of a dataset for messages."""
    names = zip(dataset.descriptions, dataset.colorinterp, strict=True)
    return ", ".join(f"{index} ({text or kind.name})" for index, (text, kind) in enumerate(names))


def _of_file(value: float | None, dtype: np.dtype[Any]) -> Nodata:
    """Return how GDAL interprets a file's own value; None for an impossible value, which masks nothing.

    64-bit integers are rounded, if available at all: GDAL's mask is used for them.
    """
    if value is None or (dtype.kind in "iu" and dtype.itemsize == 8):
        return None
    if dtype.kind in "iu" and math.isfinite(value):
        value = float(math.trunc(value))
    return value if _occurs(value, dtype) else None


def _occurs(value: float, dtype: np.dtype[Any]) -> bool:
    """Tell whether a pixel of this dtype can have a value; a real value is rounded to the nearest one of the dtype."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return not math.isfinite(value) or bool(np.isfinite(dtype.type(value)))
    if not math.isfinite(value) or value != int(value):
        return False
    limits = np.iinfo(dtype)
    return int(limits.min) <= int(value) <= int(limits.max)
