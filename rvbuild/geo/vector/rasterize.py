"""Polygons burnt to pixels, window by window.

GDAL's burn of one polygon can differ in the last bit between two windows, where an edge passes exactly through a
pixel's centre. So the scene is burnt in fixed tiles: what a pixel holds never depends on the window through which it is
read, and neighbouring windows share the work.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import rasterio.features
import shapely
import shapely.geometry
from affine import Affine
from numpy.typing import NDArray

from rvbuild.geo.gdal.environment import not_georeferenced_is_fine
from rvbuild.geo.vector.digest import digest_areas
from rvbuild.geo.windows import Window

not_georeferenced_is_fine()

TILE_PX = 512
"""Side of the tiles that are burnt at once."""

CACHE_BYTES = 64 << 20
"""Number of burnt tiles in memory."""


KEPT_POINTS = 64
"""Polygons with more points are kept as GeoJSON for other tiles; smaller ones are converted again."""


_POLYGON = shapely.GeometryType.POLYGON


class Burner:
    """Polygons in pixel coordinates, each with a value, as a raster that is burnt on demand.

    Parameters
    ----------
    geometries
        (N,) valid polygons and multipolygons, x = column, y = row. A later one covers an earlier one.
    values
        (N,) the value of each polygon.
    height, width
        Of the scene.
    background
        The value of pixels in no polygon.
    all_touched
        Burn every pixel that a polygon touches, instead of those whose centre lies in it; for all, or for each.
    """

    def __init__(
        self,
        geometries: Sequence[Any] | NDArray[np.object_],
        values: Sequence[int],
        *,
        height: int,
        width: int,
        background: int,
        all_touched: bool | Sequence[bool] = False,
    ) -> None:
        self._values = [int(value) for value in values]
        self._tree = shapely.STRtree(geometries)
        # rasterio needs geometries as GeoJSON; the conversion is expensive, and large polygons are in many tiles.
        self._shapes: dict[int, Any] = {}
        self._height, self._width = height, width
        self._background = background
        self._all_touched = [all_touched] * len(values) if isinstance(all_touched, bool) else list(all_touched)
        self._burnt = np.array([self._values, self._all_touched], dtype=np.int64).T
        self._tiles: OrderedDict[tuple[int, int], NDArray[np.uint8]] = OrderedDict()

    def read(self, window: Window, outside: int) -> NDArray[np.uint8]:
        """Return the pixels of a window: (H, W) uint8, `outside` beyond the scene."""
        pixels = np.full((window.height, window.width), outside, dtype=np.uint8)
        part = window.clip(self._height, self._width)
        if not (part.height and part.width):
            return pixels
        for tile_row in range(part.row // TILE_PX, (part.row_stop - 1) // TILE_PX + 1):
            for tile_col in range(part.col // TILE_PX, (part.col_stop - 1) // TILE_PX + 1):
                place = Window(tile_row * TILE_PX, tile_col * TILE_PX, TILE_PX, TILE_PX)
                shared = place.intersection(part)
                pixels[shared.slices_in(window)] = self._tile(tile_row, tile_col)[shared.slices_in(place)]
        return pixels

    def digest(self, window: Window) -> str:
        """Return a digest of the polygons in a window: equal digests mean equal pixels."""
        return digest_areas(self._tree, self._burnt, window)

    def _tile(self, tile_row: int, tile_col: int) -> NDArray[np.uint8]:
        key = (tile_row, tile_col)
        tile = self._tiles.get(key)
        if tile is not None:
            self._tiles.move_to_end(key)
            return tile
        tile = self._burn(Window(tile_row * TILE_PX, tile_col * TILE_PX, TILE_PX, TILE_PX))
        self._tiles[key] = tile
        if len(self._tiles) * TILE_PX * TILE_PX > CACHE_BYTES:
            self._tiles.popitem(last=False)
        return tile

    def _burn(self, place: Window) -> NDArray[np.uint8]:
        tile = np.full((place.height, place.width), self._background, dtype=np.uint8)
        # One more pixel on each side: GDAL also counts a pixel as touched if an edge runs along its border.
        box = shapely.box(place.col - 1, place.row - 1, place.col_stop + 1, place.row_stop + 1)
        indices = np.sort(self._tree.query(box))
        if len(indices):
            transform = Affine.translation(place.col, place.row)
            shapes = dict(zip(indices.tolist(), self._as_geojson(indices), strict=True))
            for touched, same in itertools.groupby(shapes, self._all_touched.__getitem__):
                burnt = [(shapes[index], self._values[index]) for index in same]
                rasterio.features.rasterize(burnt, out=tile, transform=transform, all_touched=touched)
        return tile

    def _as_geojson(self, indices: NDArray[np.intp]) -> list[Any]:
        """Return some polygons as GeoJSON; small ones without holes, which most are, are converted together."""
        geometries = self._tree.geometries[indices]
        counts = shapely.get_num_coordinates(geometries)
        plain = (counts <= KEPT_POINTS) & (shapely.get_type_id(geometries) == _POLYGON)
        plain &= shapely.get_num_interior_rings(geometries) == 0
        points = shapely.get_coordinates(geometries[plain]).tolist()
        stops = np.cumsum(np.where(plain, counts, 0)).tolist()
        starts = [0, *stops]
        return [
            {"type": "Polygon", "coordinates": [points[start:stop]]} if start < stop else self._kept_geojson(index)
            for index, start, stop in zip(indices.tolist(), starts, stops, strict=False)
        ]

    def _kept_geojson(self, index: int) -> Any:
        shape = self._shapes.get(index)
        if shape is None:
            geometry = self._tree.geometries[index]
            shape = _geojson(geometry)
            if shapely.get_num_coordinates(geometry) > KEPT_POINTS:
                self._shapes[index] = shape
        return shape


def _geojson(geometry: Any) -> Any:
    if geometry.geom_type == "Polygon" and not shapely.get_num_interior_rings(geometry):
        # Five times as fast as `mapping`.
        return {"type": "Polygon", "coordinates": [shapely.get_coordinates(geometry).tolist()]}
    return shapely.geometry.mapping(geometry)
