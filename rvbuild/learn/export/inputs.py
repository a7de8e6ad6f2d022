"""The input of an exported network: raw pixels as its graph takes them; no torch here.

8-bit values are divided by 255, because QGIS Deepness and GeoDeep give them like that. All others stay as they are. A
pixel without data is NaN, which the graph turns into 0 after the normalisation.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

BYTE_MAX = 255
"""What 8-bit values are divided by."""

_WIDE = frozenset({"int32", "uint32", "int64", "uint64", "float64"})
"""Types of imagery whose values float32 cannot hold."""


def input_type(dtype: str) -> Literal["float32", "float64"]:
    """Return the type of the input of a network that was trained on imagery of a type.

    >>> input_type("uint16"), input_type("int32")
    ('float32', 'float64')
    """
    return "float64" if dtype in _WIDE else "float32"


def as_input(images: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """Return a batch as the graph takes it.

    Parameters
    ----------
    images
        `(N, C, H, W)` raw values, in the dtype of the imagery.
    valid
        `(N, C, H, W)` bool, False where there is no data; None: every pixel is valid.

    Returns
    -------
    ndarray
        `(N, C, H, W)` float32 or float64, NaN where there is no data.
    """
    values = images.astype(input_type(images.dtype.name), order="C")
    if images.dtype == np.uint8:
        values /= BYTE_MAX
    if valid is not None and not valid.all():
        np.copyto(values, np.nan, where=~valid)
    return values
