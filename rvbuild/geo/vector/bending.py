"""Edges that are straight in one CRS and bent in another: points are put on them, to within a quarter of a pixel.

GeoJSON's edges are straight in longitude and latitude (RFC 7946, 3.1.1), those of a pixel are straight in the image. An
edge of n pieces is off by 1 / n² of what it was, so that few points do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from rvbuild.errors import DataError
from rvbuild.geo.grid import METRES_PER_DEGREE, Grid
from rvbuild.geo.vector.antimeridian import TURN, WIDE

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Project = Callable[[Floats], Floats]

TOLERANCE_PX = 0.25
"""How far an edge may be off."""

MOST_POINTS, MOST_TIMES = 500_000, 20
"""Added to all edges that are bent together: so many, or so many times as many as there are, whichever is more."""

_EARTH_M = 6_371_000.0
_BENT = 30.0
"""Lines that a map bends have a radius of more than the Earth's by this, but close to the poles."""
_ROUNDS = 20
LOOKED_AT = (0.25, 0.5, 0.75)
"""Points along an edge to test: the middle alone is not enough for an S-shaped curve."""


def bend(
    where: object,
    geometries: NDArray[np.object_],
    there: NDArray[np.object_],
    project: Project,
    grid: Grid,
    *,
    degrees: bool,
) -> NDArray[np.object_]:
    """Return geometries in the CRS of a grid, with additional points on edges that are curved there.

    Parameters
    ----------
    where
        Begins the message if that takes too many points.
    geometries
        (N,) in a CRS in which their edges are straight.
    there
        (N,) the same in the CRS of the grid, vertex by vertex.
    project
        Converts points (P, 2) from the source CRS to that of the grid.
    grid
        Of the pixels that tell how far an edge may be off.
    degrees
        The first coordinate of the geometries is a longitude: edges over more than half a turn go the other way round.

    Returns
    -------
    (N,) geometries; those of `there` where no edge is curved.
    """
    points, owner = shapely.get_coordinates(geometries, return_index=True)
    pixels = _pixels(grid, shapely.get_coordinates(there))
    # There are no edges between parts of a geometry; candidates there are removed later.
    long = long_edges(points, pixels, grid, degrees=degrees) & (owner[1:] == owner[:-1])
    chosen = np.unique(owner[1:][long])
    if not len(chosen):
        return there
    lines = [_unwrapped(line) if degrees else line for geometry in geometries[chosen] for line in lines_of(geometry)]

    def placed(coordinates: Floats) -> Floats:
        return project(_wrapped(coordinates) if degrees else coordinates)

    def pieces(points: Floats, there: Floats, edges: NDArray[np.intp]) -> Counts:
        one, other = _pixels(grid, there[edges]), _pixels(grid, there[edges + 1])
        off = np.zeros(len(edges))
        for part in LOOKED_AT:
            between = _pixels(grid, placed(points[edges] * (1 - part) + points[edges + 1] * part))
            off = np.maximum(off, distance(between, one, other))
        return pieces_for(off)

    bent, changed = subdivide(where, lines, placed, pieces)
    if not changed:
        return there
    placed_geometries, rest = there.copy(), iter(bent)
    for index in chosen:
        placed_geometries[index] = rebuilt(there[index], rest)
    return placed_geometries


def long_edges(points: Floats, pixels: Floats, grid: Grid, *, degrees: bool) -> NDArray[np.bool_]:
    """Tell of each pair of neighbours whether an edge between them may be bent by more than is allowed.

    Parameters
    ----------
    points, pixels
        (P, 2) in two CRSs: one of which is, if `degrees`, in longitude and latitude, and in pixels of the grid.
    grid
        The pixels.
    degrees
        Whether `points` are in degrees.
    """
    a, b, _, d, e, _ = grid.transform[:6]
    metres = METRES_PER_DEGREE
    if grid.crs is not None and not grid.crs.is_geographic:
        metres = grid.crs.linear_units_factor[1] if grid.crs.is_projected else 1.0
    side_m = metres * max(np.hypot(a, d), np.hypot(b, e))
    least_px = np.sqrt(8 * TOLERANCE_PX * _EARTH_M / _BENT / side_m)
    long = np.hypot(*np.diff(pixels, axis=0).T) > least_px
    if degrees:
        long |= (np.abs(np.diff(points, axis=0)) > 1).any(axis=1)
    return np.asarray(long, dtype=np.bool_)


def subdivide(
    where: object, lines: list[Floats], project: Project, pieces: Callable[[Floats, Floats, NDArray[np.intp]], Counts]
) -> tuple[list[Floats], bool]:
    """Return lines in another CRS, with additional points on their edges, and whether there are any.

    Parameters
    ----------
    where
        Begins the message if that takes too many points.
    lines
        (P, 2) each, in a CRS in which their edges are straight.
    project
        Gives points of it in the other one.
    pieces
        Gives for some edges, by the place of the first of their points among all, into how many they are to be cut, of
        all points here and there.
    """
    points = np.concatenate(lines)
    line = np.repeat(np.arange(len(lines)), [len(of_line) for of_line in lines])
    there = project(points)
    todo = np.append(line[1:] == line[:-1], False)
    before = len(points)
    for _ in range(_ROUNDS):
        edges = np.flatnonzero(todo)
        parts = np.ones(len(points), dtype=np.int64)
        parts[edges] = pieces(points, there, edges)
        if (parts == 1).all():
            break
        added = parts.sum() - before
        if added > max(MOST_POINTS, MOST_TIMES * before):
            raise DataError(
                f"{where}: its edges are so long relative to the pixels that they would need {added:,} more points. "
                "Clip the file to the image, for example with `ogr2ogr -clipsrc`"
            )
        of = np.repeat(np.arange(len(points)), parts)
        number = np.arange(len(of)) - np.repeat(np.cumsum(parts) - parts, parts)
        steps = np.append(np.diff(points, axis=0), [[0.0, 0.0]], axis=0)[of] * (number / parts[of])[:, np.newaxis]
        points, there, line, todo = points[of] + steps, there[of], line[of], (parts > 1)[of]
        there[number > 0] = project(points[number > 0])
    stops = np.flatnonzero(np.append(np.diff(line) > 0, True)) + 1
    return np.split(there, stops[:-1]), len(points) > before


def pieces_for(off: Floats) -> Counts:
    """Return the number of pieces for edges with these errors in pixels, (E,)."""
    return np.clip(np.ceil(np.sqrt(off / TOLERANCE_PX)), 1, 1 << 12).astype(np.int64)


def distance(points: Floats, one: Floats, other: Floats) -> Floats:
    """Return the distance (E,) of each point (E, 2) to the edge between two others."""
    edge, way = other - one, points - one
    squared = (edge**2).sum(axis=1)
    along = np.divide((edge * way).sum(axis=1), squared, out=np.zeros(len(edge)), where=squared > 0).clip(0, 1)
    return np.asarray(np.hypot(*(way - along[:, np.newaxis] * edge).T), dtype=np.float64)


def _pixels(grid: Grid, points: Floats) -> Floats:
    return np.stack(grid.to_pixel(points[:, 0], points[:, 1]), axis=1)


def _unwrapped(line: Floats) -> Floats:
    """Return a line (P, 2) whose edges over more than half a turn, but a whole one, go the other way round."""
    step = np.diff(line[:, 0])
    wide = (np.abs(step) > WIDE) & (np.abs(step) < TURN - 1e-6)
    if not wide.any():
        return line
    turns = np.cumsum(np.where(wide, -np.sign(step), 0.0))
    return np.stack([line[:, 0] + TURN * np.append(0.0, turns), line[:, 1]], axis=1)


def _wrapped(points: Floats) -> Floats:
    """Return points with longitudes between -180° and 180°."""
    x = points[:, 0]
    outside = (x < -WIDE) | (x > WIDE)
    return np.stack([np.where(outside, (x + WIDE) % TURN - WIDE, x), points[:, 1]], axis=1) if outside.any() else points


def lines_of(geometry: Any) -> Iterator[Floats]:
    """Yield the coordinates (P, 2) of each line and ring of a geometry."""
    kind = geometry.geom_type
    if kind.startswith("Multi") or kind == "GeometryCollection":
        for part in shapely.get_parts(geometry):
            yield from lines_of(part)
    elif kind == "Polygon":
        for ring in shapely.get_rings(geometry):
            yield shapely.get_coordinates(ring)
    elif not geometry.is_empty:
        yield shapely.get_coordinates(geometry)


def rebuilt(geometry: Any, lines: Iterator[Floats]) -> Any:
    """Return a geometry with the same parts but other lines and rings, in the order of `lines_of`."""
    kind = geometry.geom_type
    if kind.startswith("Multi") or kind == "GeometryCollection":
        return type(geometry)([rebuilt(part, lines) for part in shapely.get_parts(geometry)])
    if kind == "Polygon":
        rings = [next(lines) for _ in shapely.get_rings(geometry)]
        return shapely.Polygon(rings[0], rings[1:]) if rings else geometry
    return geometry if geometry.is_empty else type(geometry)(next(lines))
