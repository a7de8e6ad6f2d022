"""Overviews: which pixels are shown, and what is laid over them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvbuild.geo.grid import Grid
from rvbuild.geo.raster.mosaic_source import open_image
from rvbuild.geo.write.overview import class_overlay, lay_over, outlined, overview, shown_at, step_of

CLASSES = [{"id": 0, "name": "car", "color": "#ffff00"}, {"id": 1, "name": "tree", "color": "#00ff00"}]


@given(length=st.integers(1, 5000), most=st.integers(1, 900))
def test_an_overview_fits_and_shows_each_part_once(length, most):
    step = step_of(Grid(length, 1, None, None), most)
    rows = shown_at(length, step)
    assert len(rows) <= most
    assert len(rows) == -(-length // step)
    assert (rows // step == np.arange(len(rows))).all()
    assert rows[-1] < length


def test_pixels_are_those_of_the_image(write_raster, tmp_path):
    array = np.arange(3 * 20 * 30, dtype=np.uint16).reshape(3, 20, 30)
    array[:, 7, 4] = 9999
    with open_image([write_raster(tmp_path / "a.tif", array, nodata=9999)]) as image:
        pixels, valid = overview(image, 3)
    rows, cols = shown_at(20, 3), shown_at(30, 3)
    assert (pixels[valid] == array[:, rows][:, :, cols][valid]).all()
    assert np.argwhere(~valid[0]).tolist() == [[2, 1]]


def test_colours_cover_only_what_is_a_class():
    picture = np.full((1, 3, 3), 100, dtype=np.uint8)
    overlay = class_overlay(np.array([[0, 1, 255]], dtype=np.uint8), CLASSES)
    laid = lay_over(picture, overlay)
    assert laid[0, 2].tolist() == [100, 100, 100]
    assert laid[0, 0].tolist() == pytest.approx(
        [100 + 155 * 110 / 255, 100 + 155 * 110 / 255, 100 - 100 * 110 / 255], abs=1
    )
    assert laid[0, 1][1] > 160 and laid[0, 1][0] < 60


def test_outlines() -> None:
    overlay = np.zeros((7, 9, 4), dtype=np.uint8)
    overlay[1:6, 1:5] = (255, 0, 0, 110)
    overlay[1:6, 5:8] = (0, 255, 0, 110)
    lines = outlined(overlay)
    expected = np.zeros((7, 9), dtype=bool)
    expected[1:6, 1:8] = True
    expected[2:5, 2:4] = expected[2:5, 6:7] = False
    assert ((lines[..., 3] == 255) == expected).all()
    assert ((lines[..., 3] > 0) == expected).all()
    assert (lines[expected, :3] == overlay[expected, :3]).all()
