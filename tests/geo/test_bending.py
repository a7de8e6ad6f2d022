from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.warp import transform as warp

from rvbuild.errors import DataError
from rvbuild.geo.area.aoi import open_aoi
from rvbuild.geo.grid import Grid
from rvbuild.geo.labels.boxes import open_boxes
from rvbuild.geo.vector import bending
from rvbuild.geo.vector.bending import bend
from rvbuild.geo.vector.files import read_features
from rvbuild.geo.vector.placing import to_pixels

Write = Callable[..., Path]

DEGREES = CRS.from_epsg(4326)
UTM = CRS.from_epsg(32633)
POLAR = CRS.from_epsg(3413)
PLACES = {
    "utm": (UTM, 15.0, 60.0, 100.0),
    "polar": (POLAR, -45.0, 71.0, 1000.0),
    "web": (CRS.from_epsg(3857), 9, 9, 99),
}


def grid_of(name: str, side: int = 1024) -> Grid:
    crs, lon, lat, res = PLACES[name]
    (x,), (y,) = warp(DEGREES, crs, [lon], [lat])
    return Grid(side, side, Affine(res, 0, x - side / 2 * res, 0, -res, y + side / 2 * res), crs)


def densely(box: tuple[float, float, float, float], grid: Grid, source: CRS = DEGREES) -> Any:
    """Return a box of the source as a polygon in pixels, with thousands of points on its edges."""
    ring = shapely.get_coordinates(shapely.segmentize(shapely.box(*box), max(box[2] - box[0], box[3] - box[1]) / 4000))
    x, y = warp(source, grid.crs, *ring.T)
    return shapely.Polygon(np.stack(grid.to_pixel(np.array(x), np.array(y)), axis=1))


def placed(path: Path, grid: Grid) -> Any:
    return to_pixels(read_features(path), grid)[0]


def rectangle(box: tuple[float, float, float, float]) -> dict[str, Any]:
    return shapely.geometry.mapping(shapely.box(*box))


@pytest.mark.parametrize(
    ("name", "box"), [("utm", (14.0, 60.0, 16.0, 60.8)), ("polar", (-50.0, 70.0, -40.0, 72.0)), ("web", (0, 1, 9, 20))]
)
def test_long_edges_are_right_to_a_quarter_of_a_pixel(
    tmp_path: Path, write_geojson: Write, name: str, box: tuple[float, float, float, float]
) -> None:
    grid = grid_of(name)
    shape, expected = placed(write_geojson(tmp_path / "a.geojson", [(rectangle(box), {})]), grid), densely(box, grid)
    assert shapely.hausdorff_distance(shape.exterior, expected.exterior) < 0.3
    # Few points do: an edge that is straight in Mercator gets none.
    assert len(shape.exterior.coords) < (6 if name == "web" else 200)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["utm", "polar"]), st.tuples(*[st.floats(-3, 3)] * 2), st.tuples(*[st.floats(0.01, 3)] * 2))
def test_any_edge_is_right_to_a_quarter_of_a_pixel(
    name: str, corner: tuple[float, float], size: tuple[float, float]
) -> None:
    grid, (_, lon, lat, _) = grid_of(name), PLACES[name]
    box = (lon + corner[0], lat + corner[1], lon + corner[0] + size[0], lat + corner[1] + size[1])
    shape = np.array([shapely.box(*box)])
    project = lambda points: np.stack(warp(DEGREES, grid.crs, *points.T), axis=1)  # noqa: E731
    there = shapely.transform(shape, project)
    bent = shapely.transform(bend("a", shape, there, project, grid, degrees=True)[0], lambda p: np.stack(
        grid.to_pixel(*p.T), axis=1))  # fmt: skip
    assert shapely.hausdorff_distance(bent.exterior, densely(box, grid).exterior) < 0.3


def test_short_edges_and_edges_of_the_same_crs_keep_their_vertices(
    tmp_path: Path, write_geojson: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = grid_of("utm")
    small = write_geojson(tmp_path / "small.geojson", [(rectangle((15, 60, 15.01, 60.01)), {})])
    assert len(placed(small, grid).exterior.coords) == 5
    x, y = grid.to_map(np.array([0.0, 1000]), np.array([0.0, 1000]))
    monkeypatch.setattr("rvbuild.geo.vector.placing.bend", lambda *_, **__: pytest.fail("is in the CRS of the image"))
    path = write_geojson(tmp_path / "plain.geojson", [(rectangle((x[0], y[1], x[1], y[0])), {})], crs="EPSG:32633")
    assert shapely.get_coordinates(placed(path, grid)).tolist() == [
        [1000, 1000],
        [1000, 0],
        [0, 0],
        [0, 1000],
        [1000, 1000],
    ]


def test_parts_holes_lines_and_points_stay_what_they_are() -> None:
    grid = grid_of("utm")
    hole = shapely.Polygon(shapely.box(14, 59, 16, 61).exterior, [shapely.box(14.5, 59.5, 15.5, 60.5).exterior.coords])
    line = shapely.LineString([[14, 60], [16, 60]])
    shapes = np.array(
        [
            shapely.MultiPolygon([hole, shapely.box(15, 57, 15.001, 57.001)]),
            shapely.GeometryCollection([line, shapely.Point(15, 60), shapely.MultiPoint([[14, 60], [15, 60]])]),
            shapely.Polygon(),
            shapely.Point(15, 60),
        ]
    )
    project = lambda points: np.stack(warp(DEGREES, grid.crs, *points.T), axis=1)  # noqa: E731
    there = shapely.transform(shapes, project)
    bent = bend("a", shapes, there, project, grid, degrees=True)
    assert [shape.geom_type for shape in bent] == [shape.geom_type for shape in shapes]
    outer, small = bent[0].geoms
    assert len(outer.exterior.coords) > 10 and len(outer.interiors[0].coords) > 6 and len(small.exterior.coords) == 5
    assert [len(shapely.get_coordinates(part)) for part in bent[1].geoms][1:] == [1, 2]
    assert len(bent[1].geoms[0].coords) > 5
    assert bent[2:].tolist() == there[2:].tolist()


def test_boxes_and_areas_hold_their_bent_edges(tmp_path: Path, write_geojson: Write) -> None:
    grid, box = grid_of("utm"), (14.0, 60.0, 16.0, 60.2)
    path, expected = write_geojson(tmp_path / "a.geojson", [(rectangle(box), {})]), densely(box, grid)
    settings = {"kind": "vector", "class": "tree", "buffer_px": {}}
    labels = open_boxes([path], settings, grid=grid, classes=[{"id": 0, "name": "tree"}], null_id=1)
    np.testing.assert_allclose(labels.boxes, [np.clip(expected.bounds, 0, 1024)], atol=0.3)
    corners = shapely.MultiPoint(expected.exterior.coords[::4000]).bounds
    assert abs(expected.bounds[3] - corners[3]) > 1
    assert shapely.hausdorff_distance(open_aoi([path], grid).outline(), expected) < 0.3


def test_an_edge_over_the_antimeridian_goes_the_short_way(tmp_path: Path, write_geojson: Write) -> None:
    crs = CRS.from_epsg(32660)
    (x,), (y,) = warp(DEGREES, crs, [180.0], [-17.0])
    grid = Grid(512, 512, Affine(500, 0, x - 128000, 0, -500, y + 128000), crs)
    ring = [[179, -17.5], [-179, -17.5], [-179, -16.5], [179, -16.5], [179, -17.5]]
    shape = placed(write_geojson(tmp_path / "a.geojson", [({"type": "Polygon", "coordinates": [ring]}, {})]), grid)
    halves = [densely((179, -17.5, 180, -16.5), grid), densely((-180, -17.5, -179, -16.5), grid)]
    expected = shapely.union_all([shapely.buffer(half, 1e-3) for half in halves])
    assert shapely.hausdorff_distance(shape, expected) < 0.3


def test_too_many_points_are_told(tmp_path: Path, write_geojson: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bending, "MOST_POINTS", 4)
    monkeypatch.setattr(bending, "MOST_TIMES", 0)
    path = write_geojson(tmp_path / "a.geojson", [(rectangle((14, 60, 16, 60.8)), {})])
    with pytest.raises(DataError, match=r"a\.geojson: its edges are so long .* Clip the file to the image"):
        placed(path, grid_of("utm"))
