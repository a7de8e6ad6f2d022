from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import shapely
import shapely.geometry

from rvbuild.errors import DataError
from rvbuild.files import budget
from rvbuild.geo.vector import shapes as module
from rvbuild.geo.vector.shapes import Gathered, NoGeometryError, shapes_of

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


@pytest.mark.parametrize("together", [1, 3, 100])
def test_gathered_piece_by_piece_they_are_the_same(together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOGETHER", together)
    gathered = Gathered(Path("a.gpkg"))
    for geometry in GEOMETRIES:
        gathered.add(geometry)
    assert shapely.to_wkb(gathered.finish()).tolist() == shapely.to_wkb(shapes_of(GEOMETRIES)).tolist()
    for geometry in (*GEOMETRIES, {"type": "Circle"}):
        try:
            gathered.add(geometry)
        except NoGeometryError as error:
            assert error.at == 2 * len(GEOMETRIES)
            break
    else:
        with pytest.raises(NoGeometryError) as told:
            gathered.finish()
        assert told.value.at == 2 * len(GEOMETRIES)


def test_what_does_not_fit_into_memory_ends_where_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOGETHER", 2)
    monkeypatch.setattr(budget, "memory_bytes", lambda: 3000)
    gathered = Gathered(Path("a.gpkg"))
    for _ in range(5):
        gathered.add(GEOMETRIES[0])
    with pytest.raises(DataError, match=r"a\.gpkg: reading 6 of its features needs .*`where`"):
        gathered.add(GEOMETRIES[0])
