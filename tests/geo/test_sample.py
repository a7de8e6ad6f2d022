"""Samples of windows: GDAL's reads give the pixels that reading row by row gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from rvbuild.geo.raster.cropped import Cropped
from rvbuild.geo.raster.layer import Layer
from rvbuild.geo.raster.mosaic_source import open_image
from rvbuild.geo.sample import sampled
from rvbuild.geo.windows import Window

HEIGHT, WIDTH = 71, 53


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "image.tif"
    image = np.random.default_rng(0).integers(0, 9, (2, HEIGHT, WIDTH), dtype=np.uint16)
    profile = {"height": HEIGHT, "width": WIDTH, "count": 2, "dtype": "uint16", "nodata": 0}
    with rasterio.open(path, "w", driver="GTiff", **profile) as file:
        file.write(image)
    return path


@given(
    row=st.integers(0, HEIGHT - 1),
    col=st.integers(0, WIDTH - 1),
    height=st.integers(1, HEIGHT),
    width=st.integers(1, WIDTH),
    step=st.integers(1, 80),
)
def test_a_sample_is_the_middle_of_each_step(
    path: Path, row: int, col: int, height: int, width: int, step: int
) -> None:
    window = Window(row, col, height, width).clip(HEIGHT, WIDTH)
    with open_image([path]) as source:
        image, valid = source.read_sample(window, step)
        slow, slow_valid = Layer.read_sample(source, window, step)
        whole, known = source.read_raw(source.grid.window)
        part = Cropped(source, Window(1, 2, HEIGHT - 1, WIDTH - 2))
        inside = window.clip(HEIGHT - 1, WIDTH - 2)
        if inside.height and inside.width:
            moved = Window(inside.row + 1, inside.col + 2, inside.height, inside.width)
            np.testing.assert_array_equal(part.read_sample(inside, step)[0], source.read_sample(moved, step)[0])
    rows, cols = sampled(window, step)
    assert image.shape == (2, -(-window.height // step), -(-window.width // step))
    np.testing.assert_array_equal(image, whole[:, rows][:, :, cols])
    np.testing.assert_array_equal(valid, known[:, rows][:, :, cols])
    np.testing.assert_array_equal(slow, image)
    np.testing.assert_array_equal(slow_valid, valid)


def test_overviews_are_used(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    with rasterio.open(path, "w", driver="GTiff", height=64, width=64, count=1, dtype="uint8", tiled=True) as file:
        file.write(np.tile(np.array([[0, 0], [0, 200]], dtype=np.uint8), (32, 32))[np.newaxis])
        file.build_overviews([2], rasterio.enums.Resampling.average)
    with open_image([path]) as source:
        assert np.unique(source.read_sample(source.grid.window, 2)[0]).tolist() == [50]


def test_a_mosaic_is_sampled_across_its_files(tmp_path: Path) -> None:
    for number in range(2):
        place = rasterio.transform.from_origin(number * 20, 0, 1, 1)
        profile = {"height": 20, "width": 20, "count": 1, "dtype": "uint8", "transform": place, "crs": "EPSG:32633"}
        with rasterio.open(tmp_path / f"{number}.tif", "w", driver="GTiff", **profile) as file:
            file.write(np.full((1, 20, 20), number + 1, dtype=np.uint8))
    with open_image([tmp_path / "0.tif", tmp_path / "1.tif"]) as source:
        assert source.read_sample(source.grid.window, 8)[0][0, 0].tolist() == [1, 1, 2, 2, 2]
