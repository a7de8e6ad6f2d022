"""Geometries from GeoJSON objects, many at once: polygons without holes, which most are, together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import shapely
import shapely.geometry
from numpy.typing import NDArray


def shapes_of(geometries: Sequence[Any]) -> NDArray[np.object_]:
    """Return the geometries, two-dimensional, as shapely has them.

    Parameters
    ----------
    geometries
        (N,) GeoJSON objects: mappings, or fiona's geometries.

    Raises
    ------
    ValueError, TypeError, shapely.errors.ShapelyError
        One of them is no geometry.
    """
    found = np.empty(len(geometries), dtype=object)
    simple = [at for at, geometry in enumerate(geometries) if _kind(geometry) == "Polygon" and _rings(geometry) == 1]
    made = _polygons([_coordinates(geometries[at])[0] for at in simple])
    if made is not None:
        found[simple] = made
    together = set() if made is None else set(simple)
    for at, geometry in enumerate(geometries):
        if at not in together:
            found[at] = shapely.force_2d(shapely.geometry.shape(geometry))
    return found


def _polygons(rings: Sequence[Sequence[Any]]) -> NDArray[np.object_] | None:
    """Return a polygon for each ring, or None if that is not so simple for one of them."""
    try:
        points = np.array(list(chain.from_iterable(rings)), dtype=np.float64)
        counts = np.fromiter(map(len, rings), dtype=np.int64, count=len(rings))
    except (ValueError, TypeError):
        return None  # of several dimensions, or wrong: one by one
    if points.ndim != 2 or not counts.all() or (counts < 4).any():
        return None
    made: NDArray[np.object_] = shapely.polygons(
        shapely.linearrings(points[:, :2], indices=np.repeat(np.arange(len(counts)), counts))
    )
    return made


def _kind(geometry: Any) -> Any:
    return geometry.get("type") if isinstance(geometry, dict) else geometry.type


def _coordinates(geometry: Any) -> Any:
    return geometry.get("coordinates") if isinstance(geometry, dict) else geometry.coordinates


def _rings(geometry: Any) -> int:
    rings = _coordinates(geometry)
    return len(rings) if isinstance(rings, list | tuple) else 0
