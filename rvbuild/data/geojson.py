"""GeoJSON text for the few shapes that the data sets need: rectangles and ellipses, always the same bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

Ring = list[list[float]]  # [[x, y], …], closed, e.g. [[0, 0], [4, 0], [4, 3], [0, 3], [0, 0]]

ELLIPSE_VERTICES = 32


def rectangle(x0: float, y0: float, x1: float, y1: float) -> Ring:
    """Return the closed ring of an axis-parallel rectangle, from its corner of least x and y."""
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]


def ellipse(x0: float, y0: float, x1: float, y1: float) -> Ring:
    """Return the ellipse inscribed in a box as a closed ring of 32 edges.

    Coordinates are rounded to a thousandth, so that they do not depend on the platform's sine.

    >>> ellipse(0, 0, 4, 2)[0], ellipse(0, 0, 4, 2)[8]
    ([4.0, 1.0], [2.0, 2.0])
    """
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    ring = []
    for step in range(ELLIPSE_VERTICES):
        angle = 2 * math.pi * step / ELLIPSE_VERTICES
        ring.append(
            [round(x + (x1 - x0) / 2 * math.cos(angle), 3), round(y + (y1 - y0) / 2 * math.sin(angle), 3)],
        )
    return [*ring, ring[0]]


def collection(features: Iterable[tuple[Ring, dict[str, Any]]], *, crs: str | None = None) -> str:
    """Return a feature collection of polygons, one feature a line.

    Parameters
    ----------
    features
        Pairs of a ring and the feature's properties.
    crs
        An URN such as `urn:ogc:def:crs:EPSG::32616`. RFC 7946 knows only longitude and latitude, but GDAL reads
        and writes this older member. Without it they are whatever the images have.
    """
    lines = [
        json.dumps(
            {"type": "Feature", "properties": properties, "geometry": {"type": "Polygon", "coordinates": [ring]}},
        )
        for ring, properties in features
    ]
    head = '{"type": "FeatureCollection",\n'
    if crs is not None:
        head += f'"crs": {json.dumps({"type": "name", "properties": {"name": crs}})},\n'
    return head + '"features": [\n' + ",\n".join(lines) + "\n]}\n"
