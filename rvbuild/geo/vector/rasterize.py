"""Polygons burnt to pixels, window by window.

GDAL's burn of one polygon can differ in the last bit between two windows, where an edge passes exactly through a
pixel's centre. So the scene is burnt in fixed tiles: what a pixel holds never depends on the window through which it is
read, and neighbouring windows share the work.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterable, Sequence
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

FEW_POINTS = 2000
"""Polygons with no more points in all are burnt for a single window."""

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
        self._tree = shapely.STRtree(geometries)
        # rasterio needs geometries as GeoJSON; the conversion is expensive, and large polygons are in many tiles.
        self._kept: dict[int, Any] = {}
        self._counts = shapely.get_num_coordinates(self._tree.geometries)
        self._plain = (self._counts <= KEPT_POINTS) & (shapely.get_type_id(self._tree.geometries) == _POLYGON)
        self._plain &= shapely.get_num_interior_rings(self._tree.geometries) == 0
        self._height, self._width = height, width
        self._background = background
        touched = [all_touched] * len(values) if isinstance(all_touched, bool) else list(all_touched)
        self._burnt = np.array([[int(value) for value in values], touched], dtype=np.int64).T
        self._begun: set[tuple[int, int]] = set()
        self._last = Window(0, 0, 0, 0)
        self._tiles: OrderedDict[tuple[int, int], NDArray[np.uint8]] = OrderedDict()

    def read(self, window: Window, outside: int) -> NDArray[np.uint8]:
        """Return the pixels of a window: (H, W) uint8, `outside` beyond the scene."""
        pixels = np.full((window.height, window.width), outside, dtype=np.uint8)
        part = window.clip(self._height, self._width)
        if not (part.height and part.width):
            return pixels
        near, self._last = self._is_near(part), part
        for row in range(part.row - part.row % TILE_PX, part.row_stop, TILE_PX):
            for col in range(part.col - part.col % TILE_PX, part.col_stop, TILE_PX):
                place = Window(row, col, TILE_PX, TILE_PX)
                shared = place.intersection(part)
                pixels[shared.slices_in(window)] = self._tile(place, shared, near)[shared.slices_in(place)]
        return pixels

    def digest(self, window: Window) -> str:
        """Return a digest of the polygons in a window: equal digests mean equal pixels."""
        return digest_areas(self._tree, self._burnt, window)

    def _is_near(self, window: Window) -> bool:
        """Tell whether a window is no farther than a tile from the one that was read last."""
        last = self._last
        around = Window(last.row - TILE_PX, last.col - TILE_PX, last.height + 2 * TILE_PX, last.width + 2 * TILE_PX)
        shared = window.intersection(around)
        return bool(shared.height and shared.width)

    def _tile(self, place: Window, part: Window, near: bool) -> NDArray[np.uint8]:
        """Return a tile whose pixels are right at least in a part of it.

        Windows that are read in turn share tiles, so these are burnt whole and kept. So is a tile that is read for the
        second time. Of another, only the polygons of the part are burnt: a window anywhere costs half as much.
        """
        key = (place.row, place.col)
        tile = self._tiles.get(key)
        if tile is not None:
            self._tiles.move_to_end(key)
            return tile
        if not near and key not in self._begun:
            self._begun.add(key)
            indices = self._around(part)
            if self._counts[indices].sum() <= FEW_POINTS:
                return self._burn(place, indices)
        tile = self._burn(place, self._around(place))
        self._tiles[key] = tile
        if len(self._tiles) * TILE_PX * TILE_PX > CACHE_BYTES:
            self._tiles.popitem(last=False)
        return tile

    def _around(self, window: Window) -> NDArray[np.intp]:
        """Return the polygons that can touch a pixel of a window, in order."""
        # One more pixel on each side: GDAL also counts a pixel as touched if an edge runs along its border.
        box = shapely.box(window.col - 1, window.row - 1, window.col_stop + 1, window.row_stop + 1)
        return np.sort(self._tree.query(box))

    def _burn(self, place: Window, indices: NDArray[np.intp]) -> NDArray[np.uint8]:
        tile = np.full((place.height, place.width), self._background, dtype=np.uint8)
        if len(indices):
            transform = Affine.translation(place.col, place.row)
            burnt = zip(self._burnt[indices].tolist(), self._polygons(indices), strict=True)
            for touched, same in itertools.groupby(burnt, lambda each: each[0][1]):
                shapes = [
                    (_multipolygon(alike), value) for (value, _), alike in itertools.groupby(same, lambda each: each[0])
                ]
                rasterio.features.rasterize(shapes, out=tile, transform=transform, all_touched=bool(touched))
        return tile

    def _polygons(self, indices: NDArray[np.intp]) -> list[Any]:
        """Return some shapes, each as the coordinates of a GeoJSON multipolygon.

        Small polygons without holes, which most are, are converted together.
        """
        plain = self._plain[indices]
        geometries = self._tree.geometries[indices[plain]]
        points = shapely.get_coordinates(geometries).tolist()
        stops = np.cumsum(np.where(plain, self._counts[indices], 0)).tolist()
        starts = [0, *stops]
        return [
            [[points[start:stop]]] if start < stop else self._kept_polygons(index)
            for index, start, stop in zip(indices.tolist(), starts, stops, strict=False)
        ]

    def _kept_polygons(self, index: int) -> Any:
        polygons = self._kept.get(index)
        if polygons is None:
            polygons = _polygons(self._tree.geometries[index])
            if self._counts[index] > KEPT_POINTS:
                self._kept[index] = polygons
        return polygons


def _polygons(geometry: Any) -> Any:
    if geometry.geom_type != "Polygon":
        return shapely.geometry.mapping(geometry)["coordinates"]
    if shapely.get_num_interior_rings(geometry):
        return [shapely.geometry.mapping(geometry)["coordinates"]]
    # Five times as fast as `mapping`.
    return [[shapely.get_coordinates(geometry).tolist()]]


def _multipolygon(alike: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    """Return shapes that are burnt alike as one: rasterio checks it once, and burns its polygons one after another."""
    return {"type": "MultiPolygon", "coordinates": [polygon for _, polygons in alike for polygon in polygons]}
