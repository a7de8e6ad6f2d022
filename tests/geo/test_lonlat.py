from __future__ import annotations

import json
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

from rvbuild.geo.grid import Grid
from rvbuild.geo.vector.files import read_features
from rvbuild.geo.vector.lonlat import LON_LAT, to_lon_lat
from rvbuild.geo.vector.placing import to_pixels
from rvbuild.geo.vector.shapes import polygons
from rvbuild.geo.write.vectors.features import write_features


def around(epsg: int, lon: float, lat: float, res: float, side: int = 64) -> Grid:
    """Return a grid whose centre is a place."""
    crs = CRS.from_epsg(epsg)
    (x,), (y,) = warp(LON_LAT, crs, [lon], [lat])
    return Grid(side, side, Affine(res, 0, x - side / 2 * res, 0, -res, y + side / 2 * res), crs)


GRIDS = {
    "inland": around(32633, 14, 52, 10),
    "Fiji": around(32660, 180, -17, 10),
    "Fiji, coarse": around(32760, 180, -17, 8000),
    "Arctic": around(3413, 180, 80, 10_000),
    "North Pole": Grid(64, 64, Affine(1e4, 0, -32e4, 0, -1e4, 32e4), CRS.from_epsg(3413)),
    "beside the North Pole": Grid(64, 64, Affine(1e4, 0, -9.37e4, 0, -1e4, 32e4), CRS.from_epsg(3413)),
    "South Pole": Grid(64, 64, Affine(5e4, 0, -17e5, 0, -5e4, 14e5), CRS.from_epsg(3031)),
    "0 to 360": Grid(64, 64, Affine(1, 0, 150, 0, -1, 30), LON_LAT),
    "Pacific": Grid(64, 64, Affine(0.1, 0, 200, 0, -0.1, -17), LON_LAT),
    "world in degrees": Grid(60, 60, Affine(6, 0, -180, 0, -3, 90), LON_LAT),
    "world from Greenwich": Grid(60, 60, Affine(6, 0, 0, 0, -3, 90), LON_LAT),
    "world in Mercator": Grid(60, 60, Affine(667_000, 0, -2.001e7, 0, -667_000, 2.001e7), CRS.from_epsg(3857)),
    "Mercator beyond its end": Grid(64, 64, Affine(1000, 0, 20_005_508.34, 0, -1000, 1_100_000), CRS.from_epsg(3857)),
    "Mercator before its begin": Grid(64, 64, Affine(1000, 0, -20_069_508, 0, -1000, 1_100_000), CRS.from_epsg(3857)),
    "Pacific in Mercator": around(3832, 180, 0, 50_000),
}


def longest_step(shape: Any) -> float:
    rings = shapely.get_rings(shapely.get_parts(shape))
    return max(float(np.abs(np.diff(shapely.get_coordinates(ring)[:, 0])).max()) for ring in rings)


def holds(shape: Any, grid: Grid, col: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Tell of places in pixels whether a geometry in longitude and latitude holds them."""
    lon, lat = warp(grid.crs, LON_LAT, *grid.to_map(col, row))
    return shapely.contains_xy(shape, (np.array(lon) + 180) % 360 - 180, np.array(lat))


@pytest.mark.parametrize("name", GRIDS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_any_polygon_covers_the_same_places(name: str, seed: int) -> None:
    grid, rng = GRIDS[name], np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 9)))
    radii = rng.uniform(0.3, 1, len(angles)) * rng.uniform(5, grid.width / 2)
    centre = np.full(2, grid.width / 2) + rng.uniform(-8, 8, 2)
    star = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    outer = centre + star * radii[:, np.newaxis]
    shape = shapely.Polygon(outer, [centre + star * radii[:, np.newaxis] / 2] if rng.random() < 0.5 else [])
    shape = shapely.intersection(polygons(shape), shapely.box(0, 0, grid.width, grid.height))
    shape = max(shapely.get_parts(shape), key=shapely.area)
    (polygon,) = to_lon_lat("a", np.array([shape]), grid)
    assert polygon.is_valid
    west, south, east, north = polygon.bounds
    assert west >= -180 and east <= 180 and south >= -90 and north <= 90
    assert longest_step(polygon) <= 180
    col, row = rng.uniform(0, grid.width, (2, 500))
    clear = shapely.distance(shapely.boundary(shape), shapely.points(col, row)) > 0.35
    expected = shapely.contains_xy(shape, col, row)
    np.testing.assert_array_equal(holds(polygon, grid, col, row)[clear], expected[clear])


@pytest.mark.parametrize("name", GRIDS)
def test_squares_of_pixels_come_back(tmp_path: Path, name: str) -> None:
    grid = GRIDS[name]
    cells = shapely.box(*np.array([[0, 0, 4, 4], [28, 28, 36, 36], [30, 20, 40, 32], [40, 30, 50, 50]]).T)
    if name in ("world in degrees", "world from Greenwich", "world in Mercator"):
        cells = cells[1:]  # a corner is beyond the ends of the Earth
    path = tmp_path / "a.geojson"
    write_features(path, cells, grid, [{"n": n} for n in range(len(cells))], {"n": int})
    back = to_pixels(read_features(path), grid)
    for cell, other in zip(cells, back, strict=True):
        union = shapely.union_all(shapely.make_valid(other, method="structure"))
        assert shapely.symmetric_difference(cell, union).area < 0.03 * cell.length


def test_most_polygons_keep_their_vertices() -> None:
    grid = GRIDS["inland"]
    squares = shapely.box(*np.random.default_rng(0).uniform(0, 30, (4, 100)))
    points = shapely.get_coordinates(squares)
    expected = np.stack(warp(grid.crs, LON_LAT, *grid.to_map(*points.T)), axis=1)
    assert (shapely.get_coordinates(to_lon_lat("a", squares, grid)) == expected).all()


def test_what_does_not_cross_is_one_polygon_and_what_does_two() -> None:
    grid = GRIDS["Fiji"]
    shapes = to_lon_lat("a", shapely.box([2, 20, 40], [2, 20, 40], [9, 50, 60], [9, 50, 60]), grid)
    assert [shape.geom_type for shape in shapes] == ["Polygon", "MultiPolygon", "Polygon"]
    assert [round(part.bounds[2] - part.bounds[0], 3) for part in shapes[1].geoms] == [0.001, 0.002]
    assert sorted(float(x) for part in shapes[1].geoms for x in part.bounds[::2])[0] == -180


def test_a_long_edge_is_bent() -> None:
    grid = around(32633, 15, 60, 100, 2048)
    (polygon,) = to_lon_lat("a", np.array([shapely.box(0, 0, 2048, 2048)]), grid)
    assert 10 < len(polygon.exterior.coords) < 100
    edge = np.linspace(0, 2048, 999)
    truly = shapely.linestrings(np.stack(warp(grid.crs, LON_LAT, *grid.to_map(edge, np.zeros(999))), axis=1))
    metres = shapely.transform(
        np.array([polygon.exterior, truly]), lambda p: p * [111_320 * np.cos(np.radians(60)), 111_320]
    )
    assert shapely.distance(shapely.points(shapely.get_coordinates(metres[1])), metres[0]).max() < 30


def test_points_are_wrapped(tmp_path: Path) -> None:
    grid = GRIDS["Pacific"]
    path = tmp_path / "a.geojson"
    write_features(path, shapely.points([[1, 1], [20, 3]]), grid, [{}, {}], {}, "Point")
    content = json.loads(path.read_text())
    coordinates = [feature["geometry"]["coordinates"] for feature in content["features"]]
    np.testing.assert_allclose(coordinates, [[-159.9, -17.1], [-158, -17.3]])
    np.testing.assert_allclose(shapely.get_coordinates(to_pixels(read_features(path), grid)), [[1, 1], [20, 3]])


def test_other_formats_stay_where_the_image_is(tmp_path: Path) -> None:
    grid = GRIDS["Pacific"]
    write_features(tmp_path / "a.gpkg", shapely.box([1], [1], [9], [9]), grid, [{"n": 1}], {"n": int})
    features = read_features(tmp_path / "a.gpkg")
    np.testing.assert_allclose(features.geometries[0].bounds, (200.1, -17.9, 200.9, -17.1))
    np.testing.assert_allclose(to_pixels(features, grid)[0].bounds, (1, 1, 9, 9))


def test_a_geometry_of_several_parts_keeps_all_of_them() -> None:
    grid = Grid(100, 100, Affine(0.01, 0, 179.5, 0, -0.01, 10), LON_LAT)
    (geometry,) = to_lon_lat(
        "a", np.array([shapely.MultiPolygon([shapely.box(0, 0, 9, 9), shapely.box(45, 30, 70, 40)])]), grid
    )
    assert geometry.is_valid
    assert len(geometry.geoms) == 3
    assert round(geometry.area * 100 * 100, 6) == 81 + 250
