"""The antimeridian: longitude 180°, equal to -180°, which splits polygons across it.

RFC 7946 (section 3.1.9) wants geometries split there. One that is not has an edge from 179° to -179°, which reads as
one around the whole globe. In a CRS that is continuous there (a UTM zone, a polar projection) such an edge comes out
right; elsewhere it is refused. An image that itself reaches beyond 180° gets what lies on the other side moved to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS

from rvbuild.errors import DataError
from rvbuild.geo.grid import Grid, crs_name, is_local, reproject

Floats = NDArray[np.float64]

LON_LAT = CRS.from_epsg(4326)

TURN = 360.0
"""Degrees of longitude once around the globe."""
WIDE = 180.0
"""Degrees that no edge spans on the short way."""


def refuse_torn(where: object, geometries: NDArray[np.object_], source: CRS, target: CRS) -> None:
    """Raise a DataError if a geometry has an edge that spans half the globe or more.

    Edges of exactly 360° are borders of a map of the world, and fine.

    Parameters
    ----------
    where
        Begins the message, for example a path.
    geometries
        (N,) in `source`, which is geographic.
    target
        The CRS of the image, in which an edge may be correct.
    """
    for x0, y0, x1, y1 in _wide_edges(geometries):
        if target.is_geographic or _is_torn(where, source, target, (x0, y0), (x1, y1)):
            raise DataError(
                f"{where}: has an edge from longitude {x0:.10g} to {x1:.10g}, which spans more than half the globe. "
                "If it crosses the antimeridian, split its geometry there, as RFC 7946 requires (`ogr2ogr "
                "-wrapdateline`); if it really is that long, add points along it. The image is in "
                f"{crs_name(target)}"
            )


def once_around(grid: Grid) -> float:
    """Return the units of the CRS once around the globe, along x, if the grid reaches beyond the map; else 0.

    In a CRS such as EPSG:3857, an image across the antimeridian continues beyond the end of the map of the world.
    """
    if grid.crs is None or is_local(grid.crs):
        return 0.0
    west, _, east, _ = grid.bounds(grid.window)
    if grid.crs.is_geographic:
        return TURN if west < -WIDE or east > WIDE else 0.0
    cols = np.array([0, grid.width, grid.width, 0], dtype=np.float64)
    x, y = grid.to_map(cols, np.array([0, 0, grid.height, grid.height], dtype=np.float64))
    try:
        again_x, again_y = reproject("", LON_LAT, grid.crs, *reproject("", grid.crs, LON_LAT, x, y))
    except DataError:
        return 0.0
    off = np.abs(x - again_x)
    far = off > (east - west) / max(grid.width, 1)
    same = far.any() and np.allclose(off[far], off[far][0], rtol=1e-6) and np.allclose(y, again_y, atol=1e-3)
    return float(off[far][0]) if same else 0.0


def shown_on(
    grid: Grid, geometries: NDArray[np.object_], x: Floats, y: Floats
) -> tuple[NDArray[np.object_], Floats, Floats]:
    """Return geometries and their points where a scene that reaches beyond 180° shows them; otherwise unchanged.

    Each part of a geometry is shifted as a whole, by full turns. Parts that the scene shows twice are repeated: a
    polygon from -5° to 5° lies at both ends of a scene from 0° to 360°.

    Parameters
    ----------
    grid
        Of the scene.
    geometries
        (N,) the geometries; only their structure counts.
    x, y
        (P,) the points of all geometries in the CRS of the scene.
    """
    turn = once_around(grid)
    if not turn:
        return geometries, x, y
    west, _, east, _ = grid.bounds(grid.window)
    placed = shapely.set_coordinates(geometries.copy(), np.stack([x, y], axis=1))
    for index, geometry in enumerate(placed):
        parts = [part for part in _parts(geometry) if not part.is_empty]
        shifted = []
        for part in parts:
            left, _, right, _ = part.bounds
            nearest = turn * round(((west + east) / 2 - (left + right) / 2) / turn)
            again = (nearest + by for by in (-turn, turn) if left + nearest + by < east and right + nearest + by > west)
            shifted += [_shifted(part, by) for by in (nearest, *again)]
        if len(shifted) > len(parts) or any(old is not new for old, new in zip(parts, shifted, strict=True)):
            placed[index] = shifted[0] if len(shifted) == 1 else _joined(shifted)
    there = shapely.get_coordinates(placed)
    return placed, there[:, 0], there[:, 1]


def _shifted(part: Any, by: float) -> Any:
    return shapely.transform(part, lambda points: points + np.array([by, 0.0])) if by else part


def _joined(parts: list[Any]) -> Any:
    kinds = {part.geom_type for part in parts}
    if kinds == {"Polygon"}:
        return shapely.multipolygons(parts)
    if kinds == {"LineString"}:
        return shapely.multilinestrings(parts)
    if kinds == {"Point"}:
        return shapely.multipoints(parts)
    return shapely.geometrycollections(parts)


def _wide_edges(geometries: NDArray[np.object_]) -> Iterator[tuple[float, float, float, float]]:
    """Yield the edges (x0, y0, x1, y1) over more than 180° of longitude, but those over 360°."""
    bounds = shapely.bounds(geometries)
    for index in np.flatnonzero(bounds[:, 2] - bounds[:, 0] > 180):
        for part in _parts(geometries[index]):
            for line in shapely.get_rings(part) if part.geom_type == "Polygon" else [part]:
                points = shapely.get_coordinates(line)
                span = np.abs(np.diff(points[:, 0]))
                for at in np.flatnonzero((span > 180) & (span < 360 - 1e-6)):
                    x0, y0, x1, y1 = (float(value) for value in points[at : at + 2].ravel())
                    yield x0, y0, x1, y1


def _is_torn(where: object, source: CRS, target: CRS, one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Tell whether the middle of the short way from `one` to `other` is off the line between them in `target`."""
    x0, x1 = one[0] % 360, other[0] % 360
    x, y = np.array([x0, x1, (x0 + x1) / 2]), np.array([one[1], other[1], (one[1] + other[1]) / 2])
    there_x, there_y = reproject(where, source, target, (x + 180) % 360 - 180, y)
    length = np.hypot(there_x[1] - there_x[0], there_y[1] - there_y[0])
    off = np.hypot(there_x[2] - there_x[:2].mean(), there_y[2] - there_y[:2].mean())
    return bool(off > length / 4)


def _parts(geometry: Any) -> list[Any]:
    """Return the points, lines and polygons of a geometry, in the order of its coordinates."""
    if geometry.geom_type.startswith("Multi") or geometry.geom_type == "GeometryCollection":
        return [single for part in shapely.get_parts(geometry) for single in _parts(part)]
    return [geometry]
