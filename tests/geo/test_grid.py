from __future__ import annotations

import numpy as np
from affine import Affine
from rasterio.crs import CRS

from rvbuild.geo.grid import Grid, crs_name, same_crs
from rvbuild.geo.windows import Window


def test_pixels_survive_the_way_to_the_map_and_back(place: tuple[Affine, CRS | None]) -> None:
    grid = Grid(6000, 6000, *place)
    x, y = np.random.default_rng(0).uniform(0, 6000, (2, 1000))
    back_x, back_y = grid.to_pixel(*grid.to_map(x, y))
    np.testing.assert_allclose(back_x, x, rtol=0, atol=1e-6)
    np.testing.assert_allclose(back_y, y, rtol=0, atol=1e-6)


def test_the_corner_of_the_first_pixel_lies_at_the_origin() -> None:
    grid = Grid(10, 20, Affine(0.5, 0, 100, 0, -0.5, 200), None)
    assert grid.bounds(Window(0, 0, 10, 20)) == (100, 195, 110, 200)
    assert grid.bounds(Window(2, 4, 1, 1)) == (102, 198.5, 102.5, 199)
    assert grid.window == Window(0, 0, 10, 20)


def test_a_place_forgives_rounded_numbers_and_nothing_more() -> None:
    def grid(x: float, pixel: float = 0.05) -> Grid:
        return Grid(1000, 1000, Affine(pixel, 0, 366000 + x, 0, -0.05, 5810000), CRS.from_epsg(32633))

    assert grid(0).place_of(grid(0.004)) == Window(0, 0, 1000, 1000)
    assert grid(0).place_of(grid(0.05)) == Window(0, 1, 1000, 1000)
    assert grid(0).place_of(grid(0.02)) is None
    assert grid(0).place_of(grid(0, pixel=0.0501)) is None


def test_a_rotated_grid_has_no_place() -> None:
    grid = Grid(100, 100, Affine(0.05, 0, 0, 0, -0.05, 0), None)
    assert grid.place_of(Grid(100, 100, Affine(0.05, 0.001, 0, 0.001, -0.05, 0), None)) is None


def test_crs_are_the_same_by_code_too() -> None:
    utm = CRS.from_epsg(32633)
    assert same_crs(utm, CRS.from_wkt(utm.to_wkt()))
    assert same_crs(None, None)
    assert not same_crs(utm, None)


def test_names_for_messages() -> None:
    assert crs_name(None) == "no CRS"
    assert crs_name(CRS.from_epsg(32633)) == "EPSG:32633"
    local = CRS.from_wkt('LOCAL_CS["my field",UNIT["metre",1]]')
    assert crs_name(local) == "my field"
    assert "not georeferenced" in Grid(3, 4, Affine.identity(), None).describe()
    assert "4 x 3 px" in Grid(3, 4, Affine.identity(), None).describe()
    assert "transform" in Grid(3, 4, Affine.rotation(10), None).describe()
    assert "pixel 0.5 x -0.5" in Grid(3, 4, Affine(0.5, 0, 1, 0, -0.5, 2), None).describe()
