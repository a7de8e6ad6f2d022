"""Areas of suspects as shapely geometries, and back."""

from __future__ import annotations

import itertools
from typing import Any

import shapely

from rvbuild.review.suspect import Ring, Rings


def rings_of(area: Any) -> Rings:
    """Return the rings of a polygon or multipolygon, as suspects have them.

    Raises
    ------
    ValueError
        The geometry is something else, or empty.
    """
    if area.geom_type not in ("Polygon", "MultiPolygon") or area.is_empty:
        raise ValueError(f"expected polygons, found {area.geom_type}")
    rings: list[Ring] = []
    for part in shapely.get_parts(shapely.orient_polygons(area)):
        rings += [tuple(map(tuple, ring.coords)) for ring in (part.exterior, *part.interiors)]
    return tuple(rings)


def area_of(rings: Rings) -> Any:
    """Return the polygon, or with several outer rings the multipolygon, of rings as suspects have them."""
    parts: list[tuple[Ring, list[Ring]]] = []
    for ring in rings:
        if not parts or signed_area(ring) > 0:
            parts.append((ring, []))
        else:
            parts[-1][1].append(ring)
    polygons = [shapely.Polygon(outer, holes) for outer, holes in parts]
    return polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)


def fitted(shape: Any, kind: str) -> Any:
    """Return a geometry as one of the type that a layer holds, such as `MultiPolygon`; None if it is none of that type.

    Parameters
    ----------
    shape
        A polygon, multipolygon or point.
    kind
        The type, in any letter case; `Geometry`, `GeometryCollection` and `Unknown` hold every type.
    """
    kind, own = kind.upper(), shape.geom_type.upper()
    if kind in ("GEOMETRY", "GEOMETRYCOLLECTION", "UNKNOWN", own):
        return shape
    if kind == f"MULTI{own}":
        return (shapely.MultiPolygon if own == "POLYGON" else shapely.MultiPoint)([shape])
    if own == f"MULTI{kind}" and shapely.get_num_geometries(shape) == 1:
        return shapely.get_geometry(shape, 0)
    return None


def iou(first: Any, second: Any) -> float:
    """Return the intersection over union of two areas."""
    shared = float(shapely.intersection(first, second).area)
    return shared / max(float(first.area + second.area) - shared, 1e-9)


def signed_area(ring: Ring) -> float:
    """Return the area of a ring by the shoelace formula, relative to its first point."""
    x0, y0 = ring[0]
    pairs = itertools.pairwise(ring)
    return sum((a - x0) * (d - y0) - (c - x0) * (b - y0) for (a, b), (c, d) in pairs) / 2
