"""The bands to read from a raster file, the meaning of their values, and their valid pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.errors
from numpy.typing import NDArray
from rasterio.enums import MaskFlags
from rasterio.windows import Window as RasterioWindow

from rvbuild.errors import DataError
from rvbuild.files.readers import reading
from rvbuild.geo.raster.file import Image, Mask
from rvbuild.geo.raster.nodata import Nodata, NodataSetting, per_band, ranges
from rvbuild.geo.raster.tags import STORED, Apply, Palette, alphas_of, palette_of, scaling_of
from rvbuild.geo.windows import Window


@dataclass(frozen=True)
class Bands:
    """The bands of a file to read, and how to find their valid pixels."""

    indexes: tuple[int, ...]
    """Bands as GDAL counts them, from 1."""
    dtype: np.dtype[Any]
    """Dtype of the result of `read_bands`."""
    stored: np.dtype[Any]
    """Of the pixels in the file."""
    nodata: tuple[Nodata, ...]
    """Per band that is read; None: no value means nodata."""
    descriptions: tuple[str, ...]
    """Of the bands that `read_bands` returns."""
    alpha: int | None
    """The alpha band, from 1, if there is one that is used as a mask."""
    masked: bool
    """Whether GDAL's masks are read: the file has its own (a mask band or a `.msk` file), or only they are exact."""
    palette: Palette | None = None
    """Colours of the indices of one band, if they are applied: (I, C) of the red, green and blue to read."""
    opacity: NDArray[np.uint8] | None = None
    """Of the indices, (I,), if some of them are transparent."""
    scaling: tuple[tuple[float, float], ...] | None = None
    """The scale and the offset per band that is returned, if they are applied."""


def select_bands(
    path: Path, dataset: Any, channels: Sequence[int] | None, nodata: NodataSetting, apply: Apply = STORED
) -> Bands:
    """Return the bands in `channels` (indices from 0), or all but the alpha band if it is None.

    A band that `channels` names is data, even if the file calls it alpha; with `apply.alpha` false, all bands are.
    `nodata` overrides the file's own values. If indices become colours, `channels` counts red, green and blue.

    Raises
    ------
    DataError
        A channel does not exist, the bands differ in dtype, or `nodata` does not fit them.
    """
    alphas = [] if apply.alpha is False else alphas_of(dataset)
    plain = [index for index in dataset.indexes if index not in alphas] or list(dataset.indexes)
    table = palette_of(dataset) if apply.palette else None
    names = _COLORS if table is not None else _names(dataset)
    if channels is None:
        chosen = list(range(3)) if table is not None else [index - 1 for index in plain]
    else:
        listed = ", ".join(f"{number} ({name})" for number, name in enumerate(names))
        for channel in channels:
            if not 0 <= channel < len(names):
                raise DataError(f"{path}: channels: there is no band {channel}; its bands are {listed}")
        if not channels:
            raise DataError(f"{path}: channels: expected at least one band, found none; its bands are {listed}")
        chosen = list(channels)
    indexes = [1] if table is not None else [channel + 1 for channel in chosen]
    stored = _dtype_of(path, dataset, indexes)
    unread = [index for index in alphas if index not in indexes]
    return Bands(
        indexes=tuple(indexes),
        dtype=_dtype_returned(stored if table is None else table.dtype, apply),
        stored=stored,
        nodata=per_band(path, dataset, indexes, plain, stored, nodata),
        descriptions=tuple(names[channel] for channel in chosen),
        alpha=unread[0] if unread else None,
        masked=any(_reads_mask(dataset, index, stored, nodata) for index in indexes),
        palette=None if table is None else table[:, chosen],
        opacity=None if table is None or table[:, 3].min() == 255 else table[:, 3],
        scaling=_scaling(dataset, indexes, len(chosen)) if apply.scale else None,
    )


_COLORS = ("red", "green", "blue")


def _names(dataset: Any) -> Sequence[str]:
    """Return the names of the bands of a dataset."""
    return [text or f"band {number}" for number, text in enumerate(dataset.descriptions)]


def _dtype_of(path: Path, dataset: Any, indexes: Sequence[int]) -> np.dtype[Any]:
    """Return the dtype of some bands."""
    dtypes = {index: dataset.dtypes[index - 1] for index in indexes}
    if len(set(dtypes.values())) > 1:
        listed = ", ".join(f"band {index - 1} is {dtype}" for index, dtype in dtypes.items())
        raise DataError(f"{path}: expected bands of one dtype, found: {listed}. Select bands with `channels`")
    first: str = dtypes[indexes[0]]
    if first.startswith("complex"):  # numpy knows some of them, GDAL has more
        raise DataError(
            f"{path}: expected integer or real pixels, found {first}. Convert them to their magnitude, for example "
            "with `gdal_translate -ot Float32` or `gdal_calc.py`"
        )
    return np.dtype(first)


def _reads_mask(dataset: Any, index: int, dtype: np.dtype[Any], nodata: NodataSetting) -> bool:
    """Tell whether a band's mask must be read, because nodata cannot be found from its values alone."""
    flags = dataset.mask_flag_enums[index - 1]
    # Rasterio has nodata as a float, which cannot represent all 64-bit integers.
    inexact = nodata is None and dtype.kind in "iu" and dtype.itemsize == 8 and MaskFlags.nodata in flags
    return inexact or not flags or (MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags)


def _dtype_returned(stored: np.dtype[Any], apply: Apply) -> np.dtype[Any]:
    return _scaled_dtype(stored) if apply.scale else stored


def _scaled_dtype(stored: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of scaled values: float32 where it represents the stored ones exactly."""
    return np.dtype(np.float32 if stored.itemsize <= 2 or stored == np.float32 else np.float64)


def _scaling(dataset: Any, indexes: Sequence[int], count: int) -> tuple[tuple[float, float], ...]:
    return scaling_of(dataset, indexes) if len(indexes) == count else ((1.0, 0.0),) * count


def read_bands(
    path: Path, dataset: Any, bands: Bands, window: Window, shape: tuple[int, int] | None = None
) -> tuple[Image, Mask | None]:
    """Read a window inside the file, with a plain read.

    Parameters
    ----------
    path, dataset, bands, window
        What is read.
    shape
        (H, W) of the result if it is smaller than the window: a sample of its pixels, or of those of an overview.

    Returns
    -------
    image : (C, H, W) in `bands.dtype`; invalid pixels keep their stored values
    valid : (C, H, W) bool, or None if every pixel of the window is data
    """
    with reading(path, "as a raster"):
        return _read_bands(path, dataset, bands, window, shape or (window.height, window.width))


def _read_bands(
    path: Path, dataset: Any, bands: Bands, window: Window, shape: tuple[int, int]
) -> tuple[Image, Mask | None]:
    where = RasterioWindow(window.col, window.row, window.width, window.height)
    count = len(bands.indexes)
    try:
        image: Image = dataset.read(list(bands.indexes), window=where, out_shape=(count, *shape))
        valid: Mask | None = None
        if bands.alpha is not None:
            alpha = dataset.read(bands.alpha, window=where, out_shape=shape)
            valid = _merge(valid, np.broadcast_to(alpha != 0, image.shape))
        if bands.masked:
            masks = dataset.read_masks(list(bands.indexes), window=where, out_shape=(count, *shape))
            valid = _merge(valid, masks != 0)
    except rasterio.errors.RasterioIOError as error:
        # Rasterio's own text only points to GDAL's.
        reason = str(error.__cause__ or error).rstrip(".")
        raise DataError(
            f"{path}: cannot read rows {window.row} to {window.row_stop - 1}, columns {window.col} to "
            f"{window.col_stop - 1}: {reason}. Is the file complete?"
        ) from error
    if bands.stored.kind == "f":
        valid = _merge(valid, np.isfinite(image))
    for band, value in enumerate(bands.nodata):
        if value is None or math.isnan(value):
            continue
        if valid is None or not valid.flags.writeable:
            valid = np.ones(image.shape, dtype=bool) if valid is None else valid.copy()
        for low, high in ranges(value, bands.stored):
            valid[band] &= image[band] != low if low == high else (image[band] < low) | (image[band] > high)
    return _meant(image, valid, bands)


def _meant(image: Image, valid: Mask | None, bands: Bands) -> tuple[Image, Mask | None]:
    """Apply the tags (colours, scale, offset) to stored pixels."""
    if bands.palette is not None:
        indices = image[0]
        if bands.opacity is not None:
            opaque = bands.opacity[indices] != 0
            valid = opaque[np.newaxis] if valid is None else valid & opaque
        image = np.ascontiguousarray(np.moveaxis(bands.palette[indices], -1, 0))
        valid = None if valid is None else np.repeat(valid, len(image), axis=0)
    if bands.scaling is not None:
        factors, offsets = (np.array(each)[:, np.newaxis, np.newaxis] for each in zip(*bands.scaling, strict=True))
        with np.errstate(over="ignore", invalid="ignore"):
            image = (image.astype(np.float64) * factors + offsets).astype(bands.dtype)
    return image, valid


def _merge(valid: Mask | None, more: Mask) -> Mask:
    return more if valid is None else valid & more
