from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS

from rvbuild.errors import DataError
from rvbuild.geo.grid import Grid
from rvbuild.geo.vector.files import Geometries, read_features
from rvbuild.geo.vector.placing import to_pixels

Write = Callable[..., Path]

DEGREES = CRS.from_epsg(4326)
FIJI = CRS.from_epsg(32701)
ACROSS = shapely.Polygon([(179.99, -17), (-179.99, -17), (-179.99, -16.99), (179.99, -16.99)])
SPLIT = shapely.MultiPolygon(
    [shapely.box(179.99, -17, 180, -16.99), shapely.box(-180, -17, -179.99, -16.99)],
)


@pytest.fixture
def placed(tmp_path: Path, write_geojson: Write) -> Callable[..., Geometries]:
    def place(grid: Grid, *shapes: Any) -> Geometries:
        path = write_geojson(tmp_path / "x.geojson", [(shapely.geometry.mapping(shape), {}) for shape in shapes])
        return to_pixels(read_features(path), grid)

    return place


def test_a_projected_image_takes_polygons_across_split_or_not(placed: Callable[..., Geometries]) -> None:
    grid = Grid(4000, 4000, Affine(10, 0, 160_000, 0, -10, 8_130_000), FIJI)
    across, split = placed(grid, ACROSS, SPLIT)
    assert 23_000 < across.area < 24_000, "2.1 km by 1.1 km in pixels of 10 m"
    assert shapely.union_all(split).symmetric_difference(across).area < 0.01 * across.area


@pytest.mark.parametrize("west", [179.9, -180.1], ids=["beyond 180", "beyond -180"])
def test_an_image_in_degrees_beyond_the_antimeridian(placed: Callable[..., Geometries], west: float) -> None:
    grid = Grid(200, 200, Affine(0.001, 0, west, 0, -0.001, -16.9), DEGREES)
    (split,) = placed(grid, SPLIT)
    union = shapely.union_all(shapely.get_parts(split))
    np.testing.assert_allclose(union.bounds, (90, 90, 110, 100), atol=1e-5)
    assert abs(union.area - 200) < 1e-3


def test_both_ends_of_a_map_of_the_world_show_what_lies_across_its_border(placed: Callable[..., Geometries]) -> None:
    grid = Grid(180, 360, Affine(1, 0, 0, 0, -1, 90), DEGREES)
    across, west, world, line = placed(
        grid,
        shapely.box(-5, 10, 5, 20),
        shapely.box(-30, 10, -20, 20),
        shapely.box(-180, -90, 180, 90),
        shapely.LineString([(-5, 0), (5, 0)]),
    )
    visible = shapely.box(0, 0, 360, 180)
    assert across.intersection(visible).equals(
        shapely.union_all([shapely.box(0, 70, 5, 80), shapely.box(355, 70, 360, 80)])
    )
    assert west.equals(shapely.box(330, 70, 340, 80))
    assert shapely.union_all(shapely.get_parts(world)).covers(visible)
    assert line.geom_type == "MultiLineString" and line.intersection(visible).length == 10


def test_the_background_covers_an_image_across_the_antimeridian(placed: Callable[..., Geometries]) -> None:
    grid = Grid(200, 200, Affine(0.001, 0, 179.9, 0, -0.001, -16.9), DEGREES)
    (world,) = placed(grid, shapely.box(-180, -90, 180, 90))
    assert shapely.union_all(shapely.get_parts(world)).covers(shapely.box(0, 0, 200, 200))


def test_an_edge_around_the_globe_is_refused(placed: Callable[..., Geometries]) -> None:
    for grid in (
        Grid(200, 200, Affine(0.001, 0, 179.9, 0, -0.001, -16.9), DEGREES),
        Grid(200, 200, Affine(100, 0, 20_000_000, 0, -100, -1_900_000), CRS.from_epsg(3857)),
    ):
        with pytest.raises(
            DataError, match=r"longitude 179\.99 to -179\.99, which spans more than half .* split .* RFC 7946"
        ):
            placed(grid, ACROSS)


def test_a_map_of_the_world_is_fine(placed: Callable[..., Geometries]) -> None:
    grid = Grid(180, 360, Affine(1, 0, -180, 0, -1, 90), DEGREES)
    (world,) = placed(grid, shapely.box(-180, -90, 180, 90))
    assert world.bounds == (0, 0, 360, 180)
