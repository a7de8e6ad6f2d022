"""Resampling of a window that is cut at another size than it is used in."""

from __future__ import annotations

from typing import Any, overload

import numpy as np
import numpy.typing as npt

from rvbuild.geo.raster.layer import Layer
from rvbuild.geo.windows import Window

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]


def read_resampled(source: Layer, window: Window, size_px: int) -> tuple[Array, Bools | None]:
    """Return a window of an image, resampled to `size_px` square if it is of another size; see `resample`."""
    image, valid = source.read_data(window)
    if (window.height, window.width) != (size_px, size_px):
        return resample(image, valid, size_px)
    return image, valid


@overload
def resample(image: Array, valid: Bools, size_px: int) -> tuple[Array, Bools]: ...


@overload
def resample(image: Array, valid: Bools | None, size_px: int) -> tuple[Array, Bools | None]: ...


def resample(image: Array, valid: Bools | None, size_px: int) -> tuple[Array, Bools | None]:
    """Return an image resampled to `size_px` square, bilinearly, and which of its values are valid.

    The weights of two neighbours in each direction follow from the centres of the new pixels; beyond the centres of the
    outermost pixels their values continue. Integers are rounded. A new value is valid if all that it is made of is.

    Parameters
    ----------
    image, valid
        (C, H, W) in any real dtype, and bool; None: all are valid.
    size_px
        Rows and columns of the result.

    Returns
    -------
    image, valid
        (C, size_px, size_px) in the dtype given, and bool, or None as given. Invalid values are 0.
    """
    # Without matrix products: their bits would depend on the number of threads.
    values = (image if valid is None else np.where(valid, image, 0)).astype(np.float64)
    for axis in (1, 2):
        low, high, share = _neighbours(image.shape[axis], size_px)
        weight = np.expand_dims(share, tuple(i for i in range(3) if i != axis))
        values = np.take(values, low, axis) * (1 - weight) + np.take(values, high, axis) * weight
        if valid is not None:
            # A neighbour of weight 0 does not matter.
            needed = np.where(share == 0, low, high)
            valid = np.take(valid, low, axis) & np.take(valid, needed, axis)
    if image.dtype.kind in "iu":
        values = np.rint(values)
    return (values if valid is None else np.where(valid, values, 0)).astype(image.dtype), valid


def _neighbours(
    length: int, size_px: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Return for each new pixel the two old ones around its centre, and the share of the second."""
    centre = (np.arange(size_px) + 0.5) * (length / size_px) - 0.5
    centre = np.clip(centre, 0, length - 1)
    low = np.floor(centre).astype(np.intp)
    return low, np.minimum(low + 1, length - 1), centre - low
