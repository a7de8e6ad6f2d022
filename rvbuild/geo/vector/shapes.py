"""Geometries from GeoJSON objects, many at once: polygons without holes, which most are, together; and valid ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import shapely.geometry
from numpy.typing import NDArray

from rvbuild.files import budget

_TYPES = (
    *("Point", "LineString", "Polygon", "MultiPoint", "MultiLineString", "MultiPolygon"),
    *("GeometryCollection", "LinearRing"),
)


TOGETHER = 10_000
"""Number of features that become geometries at once: before that, they need ten times as much memory."""

FEWER = (
    "Split it into several files, for example one for each scene; a GeoPackage (.gpkg) is read in pieces, and "
    "`where` leaves features out"
)
"""Advice for a file whose features do not fit into memory."""

_FEATURE_BYTES = 500
"""Approximate memory of a feature besides its points."""

_POINT_BYTES = 16


class NoGeometryError(ValueError):
    """An invalid geometry: `at` is its position, the message describes the problem."""

    def __init__(self, at: int, text: str) -> None:
        super().__init__(text)
        self.at = at


def shapes_of(geometries: Sequence[Any]) -> NDArray[np.object_]:
    """Return the geometries, two-dimensional, as shapely has them.

    Parameters
    ----------
    geometries
        (N,) GeoJSON objects: mappings, or fiona's geometries.

    Raises
    ------
    NoGeometryError
        One of them is not a geometry.
    """
    shapes = np.empty(len(geometries), dtype=object)
    simple = [at for at, geometry in enumerate(geometries) if _kind(geometry) == "Polygon" and _rings(geometry) == 1]
    made = _polygons([_coordinates(geometries[at])[0] for at in simple])
    if made is not None:
        shapes[simple] = made
    together = set() if made is None else set(simple)
    for at, geometry in enumerate(geometries):
        if at not in together:
            shapes[at] = _shape(at, geometry)
    return shapes


class Gathered:
    """Gathers the geometries of a file, some at a time, and ends where they no longer fit into memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: list[Any] = []
        self._made: list[NDArray[np.object_]] = []
        self._count = self._bytes = 0

    def add(self, geometry: Any) -> None:
        """Take the next one, as its file has it."""
        self._waiting.append(geometry)
        if len(self._waiting) == TOGETHER:
            self._make()

    def finish(self) -> NDArray[np.object_]:
        """Return all of them, (N,).

        Raises
        ------
        DataError
            They need more memory than is available.
        NoGeometryError
            One of them is not a geometry.
        """
        self._make()
        return np.concatenate(self._made)

    def _make(self) -> None:
        try:
            made = shapes_of(self._waiting)
        except NoGeometryError as error:
            raise NoGeometryError(self._count + error.at, str(error)) from error
        self._count += len(made)
        self._bytes += len(made) * _FEATURE_BYTES + int(shapely.get_num_coordinates(made).sum()) * _POINT_BYTES
        self._made.append(made)
        self._waiting = []
        budget.require(self._bytes, f"{self._path}: reading {self._count} of its features", FEWER)


def polygons(geometry: Any) -> Any:
    """Return a valid Polygon or MultiPolygon with the area of a polygonal geometry; empty if it has none."""
    if not geometry.is_valid:
        geometry = shapely.make_valid(geometry, method="structure", keep_collapsed=False)
    if geometry.geom_type in ("Polygon", "MultiPolygon"):
        return geometry
    parts = [part for part in shapely.get_parts(geometry) if part.geom_type in ("Polygon", "MultiPolygon")]
    return shapely.union_all(parts) if parts else shapely.MultiPolygon()


def _shape(at: int, geometry: Any) -> Any:
    """Return one geometry; a third dimension may be there at some of its points alone."""
    kind = _kind(geometry)
    if kind not in _TYPES:
        raise NoGeometryError(at, f"has a geometry of the type {kind!r}; expected one of {', '.join(_TYPES)}")
    try:
        try:
            return shapely.force_2d(shapely.geometry.shape(geometry))
        except ValueError:
            return shapely.geometry.shape({"type": kind, "coordinates": _flat(_coordinates(geometry))})
    except (ValueError, TypeError, LookupError, AttributeError, shapely.errors.ShapelyError) as error:
        raise NoGeometryError(
            at,
            f"has an invalid {kind} ({error}). Repair the file, for example with `ogr2ogr -makevalid`, or remove "
            "the feature",
        ) from error


def _flat(coordinates: Any) -> Any:
    """Return nested coordinates reduced to points of two numbers each."""
    if coordinates and not isinstance(coordinates[0], list | tuple):
        return coordinates[:2]
    return [_flat(part) for part in coordinates]


def plain_polygons(rings: Sequence[Sequence[Any]]) -> NDArray[np.object_] | None:
    """Return a polygon for each ring of points of two finite numbers, (N,); None if one is something else."""
    return _polygons(rings, plain=True)


def _polygons(rings: Sequence[Sequence[Any]], plain: bool = False) -> NDArray[np.object_] | None:
    """Return a polygon for each ring, or None if that is not so simple for one of them."""
    try:
        points = np.array(list(chain.from_iterable(rings)), dtype=np.float64)
        counts = np.fromiter(map(len, rings), dtype=np.int64, count=len(rings))
    except (ValueError, TypeError):
        return None  # of several dimensions, or wrong: one by one
    if points.ndim != 2 or not counts.all() or (counts < 4).any():
        return None
    if plain and (points.shape[1] != 2 or not np.isfinite(points).all()):
        return None
    made: NDArray[np.object_] = shapely.polygons(
        shapely.linearrings(points[:, :2], indices=np.repeat(np.arange(len(counts)), counts))
    )
    return made


def _kind(geometry: Any) -> Any:
    return geometry.get("type") if isinstance(geometry, dict) else getattr(geometry, "type", geometry)


def _coordinates(geometry: Any) -> Any:
    return geometry.get("coordinates") if isinstance(geometry, dict) else geometry.coordinates


def _rings(geometry: Any) -> int:
    rings = _coordinates(geometry)
    return len(rings) if isinstance(rings, list | tuple) else 0
