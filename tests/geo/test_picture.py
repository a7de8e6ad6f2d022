from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rvbuild.geo.write.picture import blend, colourize, contact_sheet, rgb_preview

Classes = list[dict[str, Any]]


def test_bytes_are_shown_as_they_are() -> None:
    image = np.random.default_rng(0).integers(0, 255, (4, 5, 6)).astype(np.uint8)
    np.testing.assert_array_equal(rgb_preview(image), np.moveaxis(image[:3], 0, -1))


def test_other_numbers_are_stretched_band_by_band() -> None:
    image = np.stack([np.linspace(0, 4000, 400).reshape(20, 20)] * 3).astype(np.uint16)
    image[1] *= 10
    picture = rgb_preview(image)
    assert picture.dtype == np.uint8
    assert picture[0, 0].tolist() == [0, 0, 0]
    assert picture[-1, -1].tolist() == [255, 255, 255]
    assert picture[10, 0, 0] == picture[10, 0, 1] > 100


def test_what_is_not_valid_is_black_and_does_not_count() -> None:
    image = np.full((1, 10, 10), np.nan, np.float32)
    image[0, 5:] = np.linspace(1, 2, 50).reshape(5, 10)
    image[0, 9] = 1e9
    valid = np.ones((1, 10, 10), bool)
    valid[0, 9] = False
    picture = rgb_preview(image, valid)
    assert not picture[:5].any()
    assert not picture[9].any()
    assert picture[8, 9].tolist() == [255, 255, 255]
    assert not rgb_preview(np.full((1, 4, 4), np.nan, np.float32)).any()


def test_a_constant_image_has_a_picture() -> None:
    assert rgb_preview(np.full((3, 4, 4), 7, np.int16)).shape == (4, 4, 3)


def test_labels_get_the_colors_of_their_classes(classes: Classes) -> None:
    labels = np.array([[0, 1], [3, 255]], np.uint8)
    colors = colourize(labels, classes)
    assert colors.tolist() == [[[255, 255, 0], [0, 255, 0]], [[0, 0, 0], [0, 0, 0]]]
    grey = np.full((2, 2, 3), 100, np.uint8)
    assert blend(grey, labels, classes, share=0.5)[0, 0].tolist() == [178, 178, 50]


def test_a_sheet_is_a_png_with_the_same_bytes_each_time(tmp_path: Path, classes: Classes) -> None:
    rng = np.random.default_rng(0)
    chips = [
        (rgb_preview(rng.integers(0, 255, (3, 30, 30)).astype(np.uint8)), colourize(np.full((30, 30), i % 4), classes))
        for i in range(7)
    ]
    for name in ("one.png", "two.png"):
        contact_sheet(chips, tmp_path / name, classes=classes, tile_px=20, columns=3)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as sheet:
        pixels = np.asarray(sheet)
    assert pixels.shape[2] == 3
    assert pixels.shape[0] > 3 * 20
    assert (pixels == [255, 255, 0]).all(axis=2).sum() >= 3 * 20 * 20 * 2 / 3


def test_a_sheet_of_nothing_and_without_legend(tmp_path: Path) -> None:
    contact_sheet([], tmp_path / "empty.png")
    contact_sheet([(np.zeros((4, 4, 3), np.uint8),) * 2], tmp_path / "one.png")
    for name in ("empty", "one"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.mode == "RGB"
