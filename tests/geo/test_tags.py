"""What tags say of values: bands called alpha, colour tables, scales."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from rvbuild.geo.raster.file import open_dataset
from rvbuild.geo.raster.meaning import meaning
from rvbuild.geo.raster.mosaic_source import open_image
from rvbuild.geo.raster.open import open_scene_image
from rvbuild.geo.raster.tags import Apply, looks_like_alpha, scattered

Write = Callable[..., Path]

AS_ALPHA = {"photometric": "rgb", "alpha": "yes"}


def noise(*shape: int, seed: int = 0, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 250, shape).astype(dtype)


def whole(path: Path, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    with open_image([path], **options) as source:
        return source.read(source.grid.window)


def feathered(size: int) -> np.ndarray:
    """Return an alpha band as the edges of a mosaic have it: a few pixels of every strength."""
    alpha = np.full((size, size), 255, np.uint8)
    alpha[:, : size // 3] = 0
    alpha[:, size // 3 : size // 3 + 4] = [50, 100, 150, 200]
    return alpha


def rounded_by_jpeg(size: int) -> np.ndarray:
    alpha = noise(size, size) % 4 + 252
    alpha[: size // 2] = noise(size // 2, size, seed=1) % 4
    return alpha.astype(np.uint8)


def two_values(size: int, low: int, high: int) -> np.ndarray:
    return np.where(noise(size, size) > 100, high, low)


@pytest.mark.parametrize(
    ("band", "alpha"),
    [
        (np.full((200, 200), 255), True),
        (np.zeros((200, 200)), True),
        (two_values(200, 0, 255), True),
        (two_values(200, 0, 1), True),
        (feathered(200), True),
        (rounded_by_jpeg(200), True),
        (noise(200, 200), False),
        (np.where(np.arange(200) < 150, 0, noise(200, 200)), False),
        (noise(200, 200) // 10 + 100, False),
    ],
    ids=["opaque", "empty", "mask", "0 and 1", "feathered", "jpeg", "nir", "nir with a border", "dull nir"],
)
def test_alpha_is_told_from_a_band_by_its_values(
    tmp_path: Path, write_raster: Write, band: np.ndarray, alpha: bool
) -> None:
    image = noise(4, 200, 200)
    image[3] = band
    path = write_raster(tmp_path / "image.tif", image, **AS_ALPHA)
    assert looks_like_alpha([path], open_dataset) is alpha
    pixels, valid = whole(path)
    if alpha:
        np.testing.assert_array_equal(valid, np.broadcast_to(image[3] != 0, (3, 200, 200)))
    else:
        assert valid.all()
        np.testing.assert_array_equal(pixels, image)


def test_a_fourth_band_that_rasterio_writes_by_default_is_read(tmp_path: Path) -> None:
    image = noise(4, 50, 50)
    path = tmp_path / "image.tif"
    with rasterio.open(path, "w", driver="GTiff", height=50, width=50, count=4, dtype="uint8") as file:
        file.write(image)
    np.testing.assert_array_equal(whole(path)[0], image)


def test_the_project_says_what_is_alpha(tmp_path: Path, write_raster: Write) -> None:
    image = noise(4, 50, 50)
    image[3, :10] = 0
    nir = write_raster(tmp_path / "nir.tif", image, **AS_ALPHA)
    pixels, valid = whole(nir, apply=Apply(alpha=True))
    assert pixels.shape == (3, 50, 50)
    assert (valid.sum(), valid[:, :10].sum()) == (3 * 2000, 0)
    image[3] = 255
    opaque = write_raster(tmp_path / "opaque.tif", image, **AS_ALPHA)
    np.testing.assert_array_equal(whole(opaque, apply=Apply(alpha=False))[0], image)


def test_the_files_of_a_mosaic_have_one_kind_of_alpha(tmp_path: Path, write_raster: Write) -> None:
    paths = []
    for number in range(3):
        image = noise(4, 40, 40, seed=number)
        if number == 0:
            image[3] = 255  # a roof, say, that fills the file
        place = rasterio.Affine(1, 0, 40 * number, 0, -1, 40)
        paths.append(write_raster(tmp_path / f"{number}.tif", image, transform=place, crs="EPSG:32633", **AS_ALPHA))
    with open_image(paths) as source:
        assert source.count == 4


def indexed(path: Path, indices: np.ndarray, colors: dict[int, tuple[int, ...]]) -> Path:
    height, width = indices.shape
    with rasterio.open(path, "w", driver="PNG", height=height, width=width, count=1, dtype="uint8") as file:
        file.write(indices[np.newaxis])
        file.write_colormap(1, colors)
    return path


def test_a_palette_becomes_its_colours(tmp_path: Path) -> None:
    indices = noise(20, 30) % 3
    colors = {0: (10, 20, 30, 255), 1: (200, 0, 5, 255), 2: (7, 8, 9, 255)}
    path = indexed(tmp_path / "image.png", indices.astype(np.uint8), colors)
    expected = np.array([color[:3] for color in colors.values()], np.uint8)[indices].transpose(2, 0, 1)
    pixels, valid = whole(path, apply=Apply(palette=True))
    np.testing.assert_array_equal(pixels, expected)
    assert valid.all()
    chosen, _ = whole(path, apply=Apply(palette=True), channels=[2, 0])
    np.testing.assert_array_equal(chosen, expected[[2, 0]])
    stored, _ = whole(path)
    np.testing.assert_array_equal(stored[0], indices)


def test_a_palette_of_16_bits_becomes_its_colours(tmp_path: Path) -> None:
    indices = noise(20, 30, dtype=np.uint16) % 3 * 20_000
    colors = {0: (10, 20, 30, 255), 20_000: (200, 0, 5, 255), 40_000: (7, 8, 9, 0)}
    path = tmp_path / "image.tif"
    with rasterio.open(path, "w", driver="GTiff", height=20, width=30, count=1, dtype="uint16") as file:
        file.write(indices[np.newaxis])
        file.write_colormap(1, colors)
    expected = np.array([color[:3] for color in colors.values()], np.uint8)[indices // 20_000].transpose(2, 0, 1)
    pixels, _ = whole(path, apply=Apply(palette=True))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, expected)
    with open_image([path], apply=Apply(palette=True, scale=True)) as source:
        assert source.dtype == np.float32 == source.read(source.grid.window)[0].dtype
    assert meaning([path], {"image": {"nodata": None}, "channels": None})["palette"]


def test_transparent_colours_are_no_data(tmp_path: Path) -> None:
    indices = (noise(20, 30) % 2).astype(np.uint8)
    path = indexed(tmp_path / "image.png", indices, {0: (10, 20, 30, 0), 1: (200, 0, 5, 255)})
    _, valid = whole(path, apply=Apply(palette=True))
    np.testing.assert_array_equal(valid, np.broadcast_to(indices == 1, (3, 20, 30)))


def test_scales_are_applied_after_nodata(tmp_path: Path, write_raster: Write) -> None:
    image = noise(2, 10, 10, dtype=np.uint16)
    image[:, 0, 0] = 7
    path = write_raster(tmp_path / "image.tif", image, nodata=7)
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (0.0001, 2.0), (-0.1, 0.0)
    pixels, valid = whole(path, apply=Apply(scale=True))
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(valid, image != 7)
    expected = np.stack([image[0] * 0.0001 - 0.1, image[1] * 2.0]).astype(np.float32)
    np.testing.assert_array_equal(pixels[valid], expected[valid])
    settings = {"image": {"nodata": None, "scale": True}, "channels": [1]}
    with open_scene_image([path], settings) as source:
        np.testing.assert_array_equal(source.read(source.grid.window)[0][0][valid[1]], expected[1][valid[1]])


def test_windows_are_scattered_and_inside() -> None:
    assert scattered(10, 10, 4, 64) == ((0, 0, 10, 10),)
    for row, col, height, width in scattered(1000, 70, 16, 32):
        assert 0 <= row <= 1000 - height
        assert 0 <= col <= 70 - width
    assert len(scattered(1000, 1000, 16, 32)) == 16
