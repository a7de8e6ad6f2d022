from __future__ import annotations

from typing import Any

import pytest
import shapely
import shapely.geometry

from rvbuild.geo.shapes import shapes_of

SQUARE = [[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]]
HOLE = [[1, 1], [2, 1], [2, 2], [1, 1]]

GEOMETRIES: list[dict[str, Any]] = [
    {"type": "Polygon", "coordinates": [SQUARE]},
    {"type": "Polygon", "coordinates": [SQUARE[:-1]]},
    {"type": "Polygon", "coordinates": [[[0.1, 0.2], [1e-9, 3], [2**40, 1 / 3], [0.1, 0.2]]]},
    {"type": "Polygon", "coordinates": [[[0, 0, 7], [4, 0, 7], [4, 4, 7], [0, 0, 7]]]},
    {"type": "Polygon", "coordinates": [SQUARE, HOLE]},
    {"type": "Polygon", "coordinates": []},
    {"type": "Point", "coordinates": [1, 2, 3]},
    {"type": "LineString", "coordinates": [[0, 0], [1, 1]]},
    {"type": "MultiPolygon", "coordinates": [[SQUARE], [SQUARE, HOLE]]},
    {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [1, 2]}]},
]


@pytest.mark.parametrize(
    "chosen", [GEOMETRIES, GEOMETRIES[:2], GEOMETRIES[:3], GEOMETRIES[4:6], GEOMETRIES[5:], []], ids=len
)
def test_together_as_one_by_one(chosen: list[dict[str, Any]]) -> None:
    expected = [shapely.force_2d(shapely.geometry.shape(geometry)) for geometry in chosen]
    assert [shape.wkb for shape in shapes_of(chosen)] == [shape.wkb for shape in expected]


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]},
        {"type": "Polygon", "coordinates": [[[0, "x"], [1, 1], [2, 0], [0, 0]]]},
        {"type": "Polygon", "coordinates": [7]},
        {"type": "Polygn", "coordinates": [SQUARE]},
        {"coordinates": [SQUARE]},
    ],
    ids=repr,
)
def test_what_is_no_geometry_is_an_error(wrong: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError, shapely.errors.ShapelyError)):
        shapes_of([GEOMETRIES[0], wrong])
