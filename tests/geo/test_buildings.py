from __future__ import annotations

import time

import numpy as np
import pytest
import shapely
import shapely.affinity
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rvbuild.geo.write.vectors import buildings
from rvbuild.geo.write.vectors.buildings import outlines


def of(*patches: shapely.Polygon, split: float = 0.5, side_px: float = 4.0) -> list[shapely.Polygon]:
    array = np.empty(len(patches), dtype=object)
    array[:] = patches
    return list(outlines(array, split, side_px))


def ragged(polygon: shapely.Polygon, seed: int = 0) -> shapely.Polygon:
    """Return a polygon as a network predicts it: by pixels, and with bites and bumps of a pixel."""
    left, top, right, bottom = map(round, polygon.bounds)
    col, row = np.meshgrid(np.arange(left - 2, right + 2), np.arange(top - 2, bottom + 2))
    rng = np.random.default_rng(seed)
    x, y = (axis + 0.5 + rng.uniform(-0.9, 0.9, axis.shape) for axis in (col, row))
    inside = shapely.contains_xy(polygon, x, y)
    cells = shapely.union_all(shapely.box(col, row, col + 1, row + 1)[inside])
    return max(shapely.get_parts(cells), key=shapely.area)


def iou(first: shapely.Geometry, second: shapely.Geometry) -> float:
    return first.intersection(second).area / first.union(second).area


def right_angled(polygon: shapely.Polygon) -> bool:
    sides = np.diff(shapely.get_coordinates(polygon.exterior), axis=0)
    cross = (sides * np.roll(sides, -1, axis=0)).sum(axis=1)
    return bool(np.abs(cross / np.linalg.norm(sides, axis=1) ** 2).max() < 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("angle", [0, 17, 45, 80])
def test_a_ragged_rectangle_becomes_one(angle: float) -> None:
    true = shapely.affinity.rotate(shapely.box(100, 200, 140, 225), angle)
    (outline,) = of(ragged(true))
    assert len(outline.exterior.coords) == 5 and right_angled(outline)
    assert iou(outline, true) > 0.88


def test_an_l_keeps_its_corner() -> None:
    true = shapely.Polygon([(0, 0), (60, 0), (60, 20), (25, 20), (25, 50), (0, 50)])
    turned = shapely.affinity.rotate(true, 30)
    (outline,) = of(ragged(turned), split=0.2)
    assert right_angled(outline)
    assert len(outline.exterior.coords) <= 9
    assert iou(outline, turned) > 0.88


def test_buildings_that_touch_come_apart() -> None:
    row = shapely.union_all([shapely.box(0, 0, 30, 20), shapely.box(40, 0, 66, 20), shapely.box(30, 6, 40, 14)])
    first, second = sorted(of(row), key=lambda outline: outline.centroid.x)
    assert iou(first, shapely.box(0, 0, 30, 20)) > 0.85
    assert iou(second, shapely.box(40, 0, 66, 20)) > 0.85
    assert iou(of(row, split=0.2)[0], row) == pytest.approx(1)
    assert len(of(shapely.box(0, 0, 30, 20))) == 1


def test_a_court_stays_open() -> None:
    true = shapely.Polygon(shapely.box(0, 0, 60, 60).exterior, [shapely.box(20, 20, 40, 40).exterior])
    (outline,) = of(true, split=0)
    assert len(outline.interiors) == 1
    assert outline.area == pytest.approx(true.area)


def test_what_is_smaller_than_a_side_is_a_rectangle() -> None:
    (outline,) = of(shapely.box(3, 4, 5, 5))
    assert outline.equals(shapely.box(3, 4, 5, 5))
    assert of() == []


@pytest.mark.slow
@example([(2, 0, 12, 1), (11, 1, 12, 7), (23, 4, 9, 11)])  # regions that overlap by a rounding
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 25)] * 2, *[st.integers(1, 12)] * 2), min_size=1, max_size=6))
def test_outlines_are_valid_and_near_their_patch(boxes: list[tuple[int, int, int, int]]) -> None:
    merged = shapely.union_all([shapely.box(x, y, x + width, y + height) for x, y, width, height in boxes])
    patches = list(shapely.get_parts(merged))
    outlines = of(*patches)
    assert outlines
    for outline in outlines:
        assert outline.geom_type == "Polygon" and outline.is_valid and outline.area > 0
        assert right_angled(outline)
        assert outline.distance(merged) == 0


@pytest.mark.parametrize("angle", [0, 11, 35])
def test_what_comes_apart_is_the_patch_and_nothing_twice(angle: float) -> None:
    rng, apart = np.random.default_rng(0), 0
    for _ in range(100):
        corners = rng.integers([0, 0, 1, 1], [25, 15, 25, 25], size=(4, 4))
        joined = shapely.union_all([shapely.box(x, y, x + width, y + height) for x, y, width, height in corners])
        for patch in shapely.get_parts(shapely.affinity.rotate(joined, angle)):
            parts = buildings._apart(patch, 0.6)
            apart += len(parts) > 1
            assert sum(part.area for part in parts) == pytest.approx(patch.area, abs=1e-6)
            assert shapely.union_all(parts).area == pytest.approx(patch.area, abs=1e-6)
    assert apart > 5


@pytest.mark.slow
def test_a_ragged_patch_of_the_size_of_a_scene_is_no_trouble() -> None:
    """An untrained model predicts such."""
    rng = np.random.default_rng(0)
    noise = np.kron(rng.normal(size=(30, 30)), np.ones((8, 8))) + 0.3 * rng.normal(size=(240, 240))
    row, col = np.nonzero(noise < 0.6)
    patch = max(shapely.get_parts(shapely.union_all(shapely.box(col, row, col + 1, row + 1))), key=shapely.area)
    assert shapely.get_num_coordinates(patch) > 3000
    start = time.process_time()
    outline = shapely.union_all(of(patch, split=0.3))
    assert time.process_time() - start < 5, "one erosion by 40 pixels takes a minute"
    assert iou(outline, patch) > 0.7
