"""Geometries of an image in longitude and latitude, as RFC 7946 wants them in GeoJSON.

Longitudes are between -180° and 180°. What lies across the antimeridian is cut there (section 3.1.9), what holds a pole
reaches it along a meridian, no edge spans more than half a turn, and edges that are bent in longitude and latitude have
points that keep them to within a quarter of a pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from rvbuild.errors import DataError
from rvbuild.geo.grid import Grid, reproject, same_crs
from rvbuild.geo.vector.antimeridian import LON_LAT, TURN, WIDE, once_around
from rvbuild.geo.vector.bending import LOOKED_AT, Counts, distance, lines_of, long_edges, pieces_for, rebuilt, subdivide
from rvbuild.geo.vector.shapes import polygons

Floats = NDArray[np.float64]
Geometries = NDArray[np.object_]

_OFF_PX = np.array([1.3e-6, 0.7e-6])
"""Shift of an image with a pole, so that no vertex and no edge lies exactly on it."""

_STEP = 90.0
"""Maximum span of an edge in degrees before its route is unclear."""


def to_lon_lat(where: object, geometries: Geometries, grid: Grid) -> Geometries:
    """Return polygons or points in pixel coordinates in longitude and latitude.

    Parameters
    ----------
    where
        Begins messages.
    geometries
        (N,) in pixels of the grid, edges straight there.
    grid
        Of an image with a CRS.

    Returns
    -------
    (N,) polygons, multipolygons where one was cut, or points, in the given order; empty where nothing is left.
    """
    assert grid.crs is not None
    projection = _Projection(where, grid)
    if projection.poles:
        geometries = shapely.transform(geometries, lambda points: points + _OFF_PX)
    points, owner = shapely.get_coordinates(geometries, return_index=True)
    there = shapely.set_coordinates(geometries.copy(), projection.forward(points))
    inside, chosen = owner[1:] == owner[:-1], np.empty(0, dtype=np.intp)
    if not grid.crs.is_geographic:
        long = long_edges(shapely.get_coordinates(there), points, grid, degrees=True) & inside
        chosen = np.unique(owner[1:][long])
        if len(chosen):
            lines = [line for geometry in geometries[chosen] for line in lines_of(geometry)]
            bent = iter(subdivide(where, lines, projection.forward, projection.pieces)[0])
            for index in chosen:
                there[index] = rebuilt(there[index], bent)
    wrapped = _wrapped(there, projection)
    # Near a pole a quarter of a pixel spans many degrees, in which an edge may cross another.
    for index in chosen[~shapely.is_valid(wrapped[chosen])]:
        wrapped[index] = polygons(wrapped[index])
    return wrapped


class _Projection:
    """The way from the pixels of a grid to longitude and latitude, and back."""

    def __init__(self, where: object, grid: Grid) -> None:
        assert grid.crs is not None
        self._where, self._grid, self._crs = where, grid, grid.crs
        self.continuous = grid.crs.is_geographic
        """Longitudes continue beyond 180°, like those of the image."""
        # A point of a map that continues beyond its end would appear on the other side of it.
        turn = 0.0 if self.continuous else once_around(grid)
        begin, end = (np.stack(grid.to_pixel(np.array([x]), np.zeros(1)), axis=1) for x in (0.0, turn))
        self._turns = [number * (end - begin) for number in ((-1, 0, 1) if turn else (0,))]
        self.poles = [] if self.continuous else [(pole, place) for pole in (-90.0, 90.0) if (place := self._pole(pole))]
        """Latitude of each pole in the image, and its place in pixels."""

    def forward(self, points: Floats) -> Floats:
        """Return points (P, 2) in longitude and latitude."""
        x, y = self._grid.to_map(points[:, 0], points[:, 1])
        lon, lat = reproject(self._where, self._crs, LON_LAT, x, y)
        if self.continuous and not same_crs(self._crs, LON_LAT):
            lon = lon + TURN * np.round((x - lon) / TURN)
        return np.stack([lon, lat], axis=1)

    def back(self, points: Floats) -> Floats:
        """Return points (P, 2) in pixels."""
        x, y = reproject(self._where, LON_LAT, self._crs, points[:, 0], points[:, 1])
        return np.stack(self._grid.to_pixel(x, y), axis=1)

    def pieces(self, points: Floats, there: Floats, edges: NDArray[np.intp]) -> Counts:
        """Return into how many pieces edges are to be cut, see `rvbuild.geo.vector.bending.subdivide`."""
        one, other = points[edges], points[edges + 1]
        truly = [self.forward(one * (1 - part) + other * part)[:, 0] for part in LOOKED_AT]
        way = np.stack([there[edges, 0], *truly, there[edges + 1, 0]])
        turns = _short(np.diff(way, axis=0)).sum(axis=0)
        off = np.zeros(len(edges))
        for part in LOOKED_AT:
            lat = there[edges, 1] * (1 - part) + there[edges + 1, 1] * part
            on_line = np.stack([_short(there[edges, 0] + part * turns), lat], axis=1)
            back = self.back(on_line)
            ways = [distance(back + moved, one, other) for moved in self._turns]
            off = np.maximum(off, np.min(ways, axis=0))
        pieces: Counts = np.maximum(pieces_for(off), np.ceil(np.abs(turns) / _STEP).astype(np.int64))
        return pieces

    def _pole(self, latitude: float) -> tuple[float, float] | None:
        """Return the position of a pole in pixels, if it lies in the image."""
        try:
            ((x, y),) = self.back(np.array([[0.0, latitude]])).tolist()
        except DataError:
            return None
        inside = -1 <= x <= self._grid.width + 1 and -1 <= y <= self._grid.height + 1
        # Some projections put a pole on a line, or on the place of another.
        again = self.forward(np.array([[x + 1e-3, y + 1e-3], [x - 1e-3, y - 1e-3]]))[:, 0] if inside else np.zeros(2)
        return (x, y) if abs(abs(_short(again[1:] - again[:1])[0]) - WIDE) < 1 else None


def _short(degrees: Floats) -> Floats:
    """Return differences of longitude the short way round: from -180° up to 180°."""
    short: Floats = (degrees + WIDE) % TURN - WIDE
    return short


def _wrapped(geometries: Geometries, projection: _Projection) -> Geometries:
    """Return geometries in longitude and latitude with longitudes between -180° and 180°."""
    points, owner = shapely.get_coordinates(geometries, return_index=True)
    low = np.full(len(geometries), np.inf)
    high = np.full(len(geometries), -np.inf)
    np.minimum.at(low, owner, points[:, 0])
    np.maximum.at(high, owner, points[:, 0])
    turn = np.floor((low + WIDE) / TURN, out=np.zeros(len(low)), where=np.isfinite(low))
    # Within one turn and unbroken: most are, and some only have to be shifted.
    whole = high - turn * TURN <= WIDE
    wide = high - low > WIDE
    if (turn[whole] != 0).any():
        moved = points - np.stack([np.where(whole, turn, 0)[owner] * TURN, np.zeros(len(owner))], axis=1)
        geometries = shapely.set_coordinates(geometries.copy(), moved)
    for index in np.flatnonzero(~whole | wide):
        geometries[index] = _cut(geometries[index], projection)
    return geometries


def _cut(geometry: Any, projection: _Projection) -> Any:
    """Return polygons cut at the antimeridian, without edges over more than half a turn; or a point, moved."""
    if geometry.geom_type == "Point":
        return shapely.Point(float(_short(np.array([geometry.x]))[0]), geometry.y)
    if geometry.geom_type == "MultiPolygon":
        cut = [_cut(part, projection) for part in shapely.get_parts(geometry)]
        return shapely.MultiPolygon([part for polygon in cut for part in shapely.get_parts(polygon)])
    (outer, winds), *holes = [_opened(line, projection) for line in lines_of(geometry)]
    area = polygons(shapely.Polygon(outer))
    if winds:
        area = area.intersection(shapely.box(-WIDE, -91, WIDE, 91))
    for hole, _ in holes:
        for turn in (-TURN, 0.0, TURN):
            area = area.difference(polygons(shapely.Polygon(hole + np.array([turn, 0.0]))))
    west, _, east, _ = area.bounds
    pieces = []
    for begin in np.arange(np.floor((west + WIDE) / TURN) * TURN - WIDE, east, TURN):
        back = np.array([begin + WIDE, 0.0])
        parts = shapely.get_parts(polygons(area.intersection(shapely.box(begin, -91, begin + TURN, 91))))
        pieces += [
            shapely.set_coordinates(part, shapely.get_coordinates(part) - back) for part in parts if part.area > 0
        ]
    # An edge over more than half a turn cannot be told from one that crosses the antimeridian.
    pieces = [shapely.segmentize(part, _STEP) if part.bounds[2] - part.bounds[0] > WIDE else part for part in pieces]
    return pieces[0] if len(pieces) == 1 else shapely.MultiPolygon(pieces)


def _opened(line: Floats, projection: _Projection) -> tuple[Floats, bool]:
    """Return a ring with longitudes that run on, and whether it goes around a pole: then thrice, and back along it."""
    if projection.continuous:
        return line, False
    lon = line[0, 0] + np.append(0.0, np.cumsum(_short(np.diff(line[:, 0]))))
    ring = np.stack([lon, line[:, 1]], axis=1)
    if abs(lon[-1] - lon[0]) < WIDE:
        return ring, False
    turn = np.array([np.copysign(TURN, lon[-1] - lon[0]), 0.0])
    thrice = np.concatenate([ring[:-1] - turn, ring[:-1], ring + turn])
    latitudes = [latitude for latitude, _ in projection.poles]
    pole = min(latitudes or [-90.0, 90.0], key=lambda latitude: abs(latitude - line[:, 1].mean()))
    return np.append(thrice, [[thrice[-1, 0], pole], [thrice[0, 0], pole]], axis=0), True
