"""The areas of a polygon in the cells of a grid are those of its intersections with them."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from rvbuild.geo.vector.coverage import coverage


def by_intersection(polygon: shapely.Geometry, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    left, bottom = np.meshgrid(x[:-1], y[:-1], indexing="ij")
    right, top = np.meshgrid(x[1:], y[1:], indexing="ij")
    return shapely.area(shapely.intersection(shapely.box(left, bottom, right, top), polygon))


WITH_A_HOLE = shapely.Polygon(
    [(0, 0), (10, 1), (9, 8), (4, 5), (-1, 9)], [[(2, 2), (3, 5), (5, 3)], [(6, 2), (8, 2), (8, 4), (6, 4)]]
)
LINES = [
    np.linspace(-2, 11, 14),  # along borders, around all of it
    np.array([0.0, 3.3, 7.0]),  # smaller than it
    np.array([2.5, 3.5]),  # one cell
    np.array([20.0, 21.0, 22.0]),  # beside it
]


@pytest.mark.parametrize("y", LINES)
@pytest.mark.parametrize("x", LINES)
@pytest.mark.parametrize("flip", [False, True])
def test_areas_are_those_of_intersections(x: np.ndarray, y: np.ndarray, flip: bool) -> None:
    polygon = shapely.reverse(WITH_A_HOLE) if flip else WITH_A_HOLE
    np.testing.assert_allclose(coverage(polygon, x, y), by_intersection(polygon, x, y), atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=3, max_size=12),
    st.lists(st.integers(-5, 45), min_size=2, max_size=8, unique=True),
    st.lists(st.floats(-5, 45), min_size=2, max_size=8, unique=True),
)
def test_any_polygon(points: list[tuple[int, int]], x: list[int], y: list[float]) -> None:
    hull = shapely.convex_hull(shapely.multipoints(points))
    notched = shapely.difference(hull, shapely.box(10, 10, 17, 23))
    for polygon in shapely.get_parts(notched):
        if polygon.geom_type == "Polygon":
            lines = np.sort(np.array(x, dtype=float)), np.sort(np.array(y))
            np.testing.assert_allclose(coverage(polygon, *lines), by_intersection(polygon, *lines), atol=1e-6)
