from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from rvbuild.errors import DataError
from rvbuild.geo.grid import Grid
from rvbuild.geo.raster.open import open_scene_image
from rvbuild.geo.windows import Window
from tests.geo.conftest import PLACES

Write = Callable[..., Path]


def open_part(path: Path, **bbox: Any) -> Any:
    return open_scene_image([path], {"image": {"nodata": None, "bbox": bbox}, "channels": None})


def noise(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 250, shape).astype(dtype)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_part_has_the_pixels_and_the_place_of_the_whole(write_raster: Write, data: st.DataObject) -> None:
    transform, crs = data.draw(st.sampled_from(list(PLACES.values())))
    x, y = data.draw(st.integers(0, 39)), data.draw(st.integers(0, 29))
    box = [x, y, data.draw(st.integers(x + 1, 40)), data.draw(st.integers(y + 1, 30))]
    window = Window(*(data.draw(st.integers(low, 30)) for low in (-8, -8, 1, 1)))
    image = noise(2, 30, 40)
    with tempfile.TemporaryDirectory() as folder:
        path = write_raster(Path(folder, "a.tif"), image, transform=transform, crs=crs)
        with open_part(path, px=box) as part:
            pixels, valid = part.read(window)
    part_of = image[:, y : box[3], x : box[2]]
    height, width = part_of.shape[1:]
    assert (part.grid.height, part.grid.width) == (height, width)
    corner = Grid(30, 40, transform, crs).to_map(np.array([float(x)]), np.array([float(y)]))
    assert (part.grid.transform.c, part.grid.transform.f) == (corner[0][0], corner[1][0])
    expected, inside = np.zeros(pixels.shape, np.uint8), np.zeros(valid.shape, bool)
    shared = window.clip(height, width)
    if shared.height and shared.width:
        to = (slice(None), *shared.slices_in(window))
        expected[to], inside[to] = part_of[:, shared.row : shared.row_stop, shared.col : shared.col_stop], True
    np.testing.assert_array_equal(pixels, expected)
    np.testing.assert_array_equal(valid, inside)


@pytest.mark.parametrize("name", [name for name in PLACES if name != "rotated"])
def test_units_of_the_grid_give_just_these_pixels(tmp_path: Path, write_raster: Write, name: str) -> None:
    transform, crs = PLACES[name]
    path = write_raster(tmp_path / "a.tif", noise(1, 30, 40), transform=transform, crs=crs)
    bounds = Grid(30, 40, transform, crs).bounds(Window(4, 7, 11, 13))
    with (
        open_part(path, units=[float(f"{value:.12g}") for value in bounds]) as units,
        open_part(path, px=[7, 4, 20, 15]) as px,
    ):
        assert units.grid == px.grid


def test_units_take_pixels_that_lie_partly_inside(tmp_path: Path, write_raster: Write) -> None:
    path = write_raster(tmp_path / "a.tif", noise(1, 30, 40), transform=Affine(2, 0, 100, 0, -2, 200), crs="EPSG:32633")
    with open_part(path, units=[103, 190.5, 106.5, 195]) as part:
        assert (part.grid.height, part.grid.width) == (3, 3)
        assert part.grid.bounds(part.grid.window) == (102, 190, 108, 196)
    with open_part(path, units=[-1000, 190, 102, 1e6]) as part:
        assert part.grid.bounds(part.grid.window) == (100, 190, 102, 200)


def test_units_of_a_rotated_image_enclose_the_box(tmp_path: Path, write_raster: Write) -> None:
    transform, crs = PLACES["rotated"]
    path = write_raster(tmp_path / "a.tif", noise(1, 30, 40), transform=transform, crs=crs)
    with open_part(path, units=[366000.7, 5809999.6, 366000.9, 5809999.8]) as part:
        xs, ys = np.array([366000.7, 366000.9] * 2), np.array([5809999.6, 5809999.6, 5809999.8, 5809999.8])
        col, row = part.grid.to_pixel(xs, ys)
        assert 0 <= col.min() < 1 and 0 <= row.min() < 1
        assert part.grid.width - 1 < col.max() <= part.grid.width
        assert part.grid.height - 1 < row.max() <= part.grid.height


def test_boxes_that_cannot_be_meant(tmp_path: Path, write_raster: Write) -> None:
    path = write_raster(
        tmp_path / "a.tif", noise(1, 30, 40), transform=Affine(2, 0, 100, 0, -2, 200), crs=CRS.from_epsg(32633)
    )
    with pytest.raises(DataError, match=r"bbox_px = \[0, 0, 41, 30\] reaches beyond the image, which has 40 x 30 px"):
        open_part(path, px=[0, 0, 41, 30])
    with pytest.raises(
        DataError, match=r"bbox_units = \[0, 0, 10, 10\] shares no pixel .* covers \[100, 140, 180, 200\]"
    ):
        open_part(path, units=[0, 0, 10, 10])


def test_nodata_and_nan_of_a_part(tmp_path: Path, write_raster: Write) -> None:
    image = noise(1, 10, 10, dtype=np.float32)
    image[0, 5, 5], image[0, 6, 6] = -1, np.nan
    path = write_raster(tmp_path / "a.tif", image, nodata=-1)
    with open_part(path, px=[5, 5, 9, 9]) as part:
        pixels, valid = part.read(part.grid.window)
        assert np.argwhere(~valid[0]).tolist() == [[0, 0], [1, 1]]
        assert pixels[0, 0, 0] == pixels[0, 1, 1] == 0
