"""What areas with values say in a window, as a digest: equal digests mean equal pixels and equal classes there."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
import xxhash
from numpy.typing import NDArray

from rvbuild.geo.windows import Window

MARGIN_PX = 2
"""How far around a window areas count: GDAL counts a pixel as touched where an edge runs along its border, and the
bounds of a polygon that are a cell are rounded to whole pixels."""


def digest_areas(
    tree: shapely.STRtree, areas: Sequence[Any] | NDArray[np.object_], said: Sequence[tuple[int, ...]], window: Window
) -> str:
    """Return a digest of all areas that may touch a window, exactly and in their order, as 32 hexadecimal digits.

    Parameters
    ----------
    tree
        Of `areas`.
    areas, said
        (N,) polygons in pixel coordinates (x = column, y = row), and what is said of each in whole numbers: its class.
    window
        Where they count: those whose bounds reach within `MARGIN_PX` of it.
    """
    row, col, row_stop, col_stop = window.row, window.col, window.row_stop, window.col_stop
    box = shapely.box(col - MARGIN_PX, row - MARGIN_PX, col_stop + MARGIN_PX, row_stop + MARGIN_PX)
    state = xxhash.xxh3_128()
    found = np.sort(tree.query(box)).tolist()
    for index, shape in zip(found, shapely.to_wkb([areas[index] for index in found], byte_order=1), strict=True):
        state.update(struct.pack(f"<{len(said[index])}qq", *said[index], len(shape)))
        state.update(shape)
    return str(state.hexdigest())
