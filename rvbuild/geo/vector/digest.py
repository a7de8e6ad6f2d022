"""Digests of areas with values in a window: equal digests mean equal pixels and equal classes there."""

from __future__ import annotations

import numpy as np
import shapely
import xxhash
from numpy.typing import NDArray

from rvbuild.geo.windows import Window

MARGIN_PX = 2
"""How far around a window areas count: GDAL counts a pixel as touched where an edge runs along its border, and the
bounds of a polygon that are a cell are rounded to whole pixels."""


def digest_areas(tree: shapely.STRtree, values: NDArray[np.int64], window: Window) -> str:
    """Return a digest of all areas that may touch a window, exactly and in their order, as 32 hexadecimal digits.

    Parameters
    ----------
    tree
        Of (N,) polygons in pixel coordinates (x = column, y = row).
    said
        (N, k) the values of each, with its class first.
    window
        The window: areas whose bounds reach within `MARGIN_PX` of it count.
    """
    row, col, row_stop, col_stop = window.row, window.col, window.row_stop, window.col_stop
    box = shapely.box(col - MARGIN_PX, row - MARGIN_PX, col_stop + MARGIN_PX, row_stop + MARGIN_PX)
    indices = np.sort(tree.query(box))
    state = xxhash.xxh3_128(values[indices].astype("<i8").tobytes())
    for shape in shapely.to_wkb(tree.geometries[indices], byte_order=1):
        # A shape begins with its type and its number of parts, so the bytes can only be split into shapes in one way.
        state.update(shape)
    return str(state.hexdigest())
