"""Where borders of regions meet: the corners of pixels at which a polygon needs a vertex to match its neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from rvbuild.geo.windows import bands

Geometries = NDArray[np.object_]
Places = NDArray[np.int64]
"""Corners of pixels, as row * (width + 1) + column of a raster of `width` columns, increasing."""

_ROWS = 128
"""Of a raster, that are read at once."""


def junctions(ids: Any, nodata: int) -> Places:
    """Return the corners of pixels at which three or four borders meet.

    Parameters
    ----------
    ids
        An open raster of ids: one band, uint8.
    nodata
        The id of pixels without a region; around the raster there is none, either.
    """
    places = [np.empty(0, dtype=np.int64)]
    height, width = ids.shape
    above = np.full((1, width + 2), nodata, dtype=np.uint8)
    for band in bands(height + 1, width, _ROWS):
        rows = np.full((1 + band.height, width + 2), nodata, dtype=np.uint8)
        rows[:1] = above
        stop = min(band.row_stop, height)
        if stop > band.row:
            rows[1 : 1 + stop - band.row, 1:-1] = ids.read(1, window=((band.row, stop), (0, width)))
        across, down = rows[:, 1:] != rows[:, :-1], rows[1:] != rows[:-1]
        arms = across[1:].view(np.uint8) + across[:-1].view(np.uint8)
        arms += down[:, 1:].view(np.uint8)
        arms += down[:, :-1].view(np.uint8)
        places.append(np.flatnonzero(arms > 2) + band.row * (width + 1))
        above = rows[-1:]
    return np.concatenate(places)


class Outlines:
    """Polygons in pixel coordinates, whose sides follow the edges of pixels, as arrays.

    Each has a vertex at its corners, and at the places on its sides, and no others. Rings keep their first vertices,
    and directions.

    Parameters
    ----------
    places
        See `junctions`.
    width
        The columns of the raster.
    """

    def __init__(self, places: Places, width: int) -> None:
        self._places, self._width = places, width
        self._vertices = [np.empty((0, 2), dtype=np.int32)]
        self._ring_sizes = [np.zeros(1, dtype=np.int64)]
        self._ring_counts = [np.zeros(1, dtype=np.int64)]

    def add(self, polygons: Geometries) -> None:
        """Append polygons (N,)."""
        _, points, (rings, parts) = shapely.to_ragged_array(shapely.segmentize(polygons, 1.0))
        points = np.rint(points).astype(np.int32)
        step = np.diff(points, axis=0)
        keep = np.ones(len(points), dtype=bool)
        keep[1:-1] = (step[1:] != step[:-1]).any(axis=1)
        keep[rings[:-1]] = keep[rings[1:] - 1] = True  # the first and last one of a ring, which are the same
        keep |= _among(self._places, points[:, 1].astype(np.int64) * (self._width + 1) + points[:, 0])
        self._vertices.append(points[keep])
        self._ring_sizes.append(np.add.reduceat(keep, rings[:-1], dtype=np.int64))
        self._ring_counts.append(np.diff(parts).astype(np.int64))

    def polygons(self) -> Geometries:
        """Return all polygons."""
        vertices = np.concatenate(self._vertices).astype(np.float64)
        offsets = tuple(np.concatenate(sizes).cumsum() for sizes in (self._ring_sizes, self._ring_counts))
        polygons: Geometries = shapely.from_ragged_array(shapely.GeometryType.POLYGON, vertices, offsets)
        return polygons


def _among(places: Places, wanted: Places) -> NDArray[np.bool_]:
    """Tell which of some places are among others, which increase."""
    if not len(places):
        return np.zeros(len(wanted), dtype=bool)
    found: NDArray[np.bool_] = places[np.searchsorted(places, wanted).clip(max=len(places) - 1)] == wanted
    return found
