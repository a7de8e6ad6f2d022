from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio.features
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.warp import transform as reproject

from rvbuild.errors import DataError
from rvbuild.geo.area.aoi import Aoi, open_aoi
from rvbuild.geo.grid import Grid
from rvbuild.geo.windows import Window, sliding

Write = Callable[..., Path]
Square = Callable[..., dict[str, Any]]

PIXELS = Grid(60, 80, Affine.identity(), None)


def test_no_files_are_no_area() -> None:
    assert open_aoi([], PIXELS) is None


@pytest.fixture
def area(tmp_path: Path, write_geojson: Write, square: Square) -> Aoi:
    outer, hole = square(10, 10, 50, 40)["coordinates"][0], square(20, 20, 24, 24)["coordinates"][0]
    holed = write_geojson(tmp_path / "one.geojson", [({"type": "Polygon", "coordinates": [outer, hole]}, {})])
    two = write_geojson(tmp_path / "two.geojson", [(square(50, 10, 60, 40), {}), (square(70, 50, 90, 70), {})])
    aoi = open_aoi([holed, two], PIXELS)
    assert aoi is not None
    return aoi


def test_windows_across_touching_polygons_lie_inside(area: Aoi) -> None:
    assert area.contains(Window(10, 30, 30, 30))
    assert not area.contains(Window(9, 30, 30, 30))
    assert not area.contains(Window(15, 15, 10, 10)), "there is a hole"


def test_windows_that_share_area_intersect(area: Aoi) -> None:
    assert area.intersects(Window(0, 0, 11, 11))
    assert not area.intersects(Window(0, 0, 10, 10)), "only a corner is shared"
    assert not area.intersects(Window(0, 20, 10, 10)), "only an edge is shared"
    assert not area.intersects(Window(20, 20, 4, 4)), "it lies in the hole"


def test_what_overhangs_does_not_count(area: Aoi) -> None:
    assert area.contains(Window(50, 70, 30, 30))
    assert not area.contains(Window(100, 100, 5, 5))
    assert not area.intersects(Window(65, 75, 5, 5))


def test_the_mask_is_where_pixel_centres_lie_inside(area: Aoi) -> None:
    expected = np.zeros((60, 80), bool)
    expected[10:40, 10:60] = True
    expected[20:24, 20:24] = False
    expected[50:, 70:] = True
    np.testing.assert_array_equal(area.mask(PIXELS.window), expected)
    overhanging = area.mask(Window(55, 75, 10, 10))
    assert overhanging.dtype == bool
    assert overhanging[:5, :5].all()
    assert overhanging.sum() == 25


def test_bounds_are_a_window_in_the_scene(area: Aoi, tmp_path: Path, write_geojson: Write, square: Square) -> None:
    assert area.bounds == Window(10, 10, 50, 70)
    far = open_aoi([write_geojson(tmp_path / "far.geojson", [(square(500, 500, 600, 600), {})])], PIXELS)
    assert far is not None
    assert far.bounds.height == far.bounds.width == 0
    assert not far.mask(PIXELS.window).any()


def test_an_area_in_another_crs(tmp_path: Path, write_geojson: Write, grid: Grid) -> None:
    x, y = np.array([0.0, 60, 60, 0, 0]), np.array([0.0, 0, 100, 100, 0])
    ring = list(zip(*reproject(grid.crs, "EPSG:4326", *grid.to_map(x, y)), strict=True))
    path = write_geojson(tmp_path / "aoi.geojson", [({"type": "Polygon", "coordinates": [ring]}, {})])
    aoi = open_aoi([path], grid)
    assert aoi is not None
    assert aoi.bounds == Window(0, 0, 100, 60)
    assert aoi.contains(Window(0, 0, 100, 60))
    assert not aoi.contains(Window(0, 0, 100, 61))
    assert aoi.mask(grid.window).sum() == 100 * 60


@pytest.mark.slow
@given(st.integers(0, 70), st.integers(0, 70), st.integers(1, 30))
def test_contains_and_intersects_agree_with_the_mask(row: int, col: int, size: int) -> None:
    shapes = [shapely.box(5, 5, 40, 45), shapely.box(30, 20, 75, 55), shapely.box(60, 2, 70, 9)]
    aoi = Aoi(shapes, PIXELS)
    whole = rasterio.features.rasterize(shapes, out_shape=(60, 80)).astype(bool)
    window = Window(row, col, size, size)
    part = window.clip(60, 80)
    inside = whole[part.slices_in(PIXELS.window)]
    np.testing.assert_array_equal(aoi.mask(window)[part.slices_in(window)], inside)
    has_part = bool(part.height and part.width)
    assert aoi.contains(window) == (has_part and bool(inside.all()))
    assert aoi.intersects(window) == bool(inside.any())


def test_many_windows_are_judged_fast() -> None:
    rng = np.random.default_rng(0)
    shapes = [shapely.Point(*rng.uniform(0, 2000, 2)).buffer(40) for _ in range(300)]
    aoi = Aoi(shapes, Grid(2000, 2000, Affine.identity(), None))
    begun = time.process_time()
    judged = [(aoi.contains(w), aoi.intersects(w)) for w in sliding(2000, 2000, 45, 45)]
    assert time.process_time() - begun < 10  # with a union for each of 2025 windows: minutes
    assert {(False, False), (False, True)} <= set(judged)


def test_polygons_of_an_area_are_chosen(tmp_path: Path, write_geojson: Write, square: Square) -> None:
    features = [(square(0, 0, 10, 10), {"use": "train"}), (square(20, 0, 30, 10), {"use": "none"})]
    path = write_geojson(tmp_path / "areas.geojson", features)
    settings = {"parts": [{"files": 1, "where": ["==", "use", "train"]}]}
    aoi = open_aoi([path], PIXELS, settings)
    assert aoi is not None
    assert aoi.bounds == Window(0, 0, 10, 10)
    with pytest.raises(DataError, match="holds no polygon that passes `where`"):
        open_aoi([path], PIXELS, {"parts": [{"files": 1, "where": ["has", "height"]}]})


def test_an_area_of_interest_has_area(tmp_path: Path, write_geojson: Write) -> None:
    empty = write_geojson(tmp_path / "empty.geojson", [])
    with pytest.raises(DataError, match=r"empty\.geojson: holds no polygon"):
        open_aoi([empty], PIXELS)
    point = write_geojson(tmp_path / "point.geojson", [({"type": "Point", "coordinates": [1, 1]}, {})])
    with pytest.raises(DataError, match=r"feature 0 \(from 0\) is a Point; an area of interest needs polygons"):
        open_aoi([point], PIXELS)
