"""Coarse samples that are kept of images in tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rvbuild.geo.raster.mosaic_source import RasterSource, open_image
from rvbuild.geo.windows import Window
from rvbuild.view import coarse
from rvbuild.view.readers import Memo

from .conftest import write_raster

HEIGHT, WIDTH = 330, 270
TILED = {"tiled": True, "blockxsize": 16, "blockysize": 16}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coarse, "CELL", 16)
    monkeypatch.setattr(coarse, "STEP", 2)


def write(folder: Path, **profile: object) -> tuple[Path, np.ndarray]:
    image = np.random.default_rng(0).integers(1, 65535, (2, HEIGHT, WIDTH), dtype=np.uint16)
    image[:, :40, :40] = 0
    write_raster(folder / "image.tif", image, nodata=0, **profile)
    return folder / "image.tif", image


def test_all_samples_come_from_one_reading_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, image = write(tmp_path, **TILED)
    memo, reads, read = Memo(1 << 24), [], RasterSource.read_sample

    def counting(self: RasterSource, window: Window, step: int) -> object:
        reads.append(window)
        return read(self, window, step)

    monkeypatch.setattr(RasterSource, "read_sample", counting)
    kept = image[:, 1::2, 1::2]
    with open_image([path]) as source:
        assert source.sample_reads_all()
        for step in (64, 16, 4, 2):
            pixels, valid = coarse.read_sample(source, source.grid.window, step, "key", memo)
            times = step // 2
            rows = np.minimum(np.arange(-(-HEIGHT // step)) * times + times // 2, HEIGHT // 2 - 1)
            cols = np.minimum(np.arange(-(-WIDTH // step)) * times + times // 2, WIDTH // 2 - 1)
            np.testing.assert_array_equal(pixels, kept[:, rows][:, :, cols])
            np.testing.assert_array_equal(valid, pixels != 0)
        part, _ = coarse.read_sample(source, Window(64, 128, 128, WIDTH - 128), 16, "key", memo)
        np.testing.assert_array_equal(
            part, coarse.read_sample(source, source.grid.window, 16, "key", memo)[0][:, 4:12, 8:]
        )
    assert sum(window.height * window.width for window in reads) == HEIGHT * WIDTH
    assert len(set(reads)) == len(reads)


def test_files_whose_samples_are_cheap_are_read_directly(tmp_path: Path) -> None:
    path, image = write(tmp_path)
    with open_image([path]) as source:
        assert not source.sample_reads_all()
        pixels, _ = coarse.read_sample(source, source.grid.window, 4, "key", Memo(1))
    np.testing.assert_array_equal(pixels[:, :82, :67], image[:, 2:328:4, 2:268:4])


def test_of_large_images_coarser_samples_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = write(tmp_path, **TILED)
    monkeypatch.setattr(coarse, "IMAGE_BYTES", HEIGHT * WIDTH // 64 * 2 * 3)
    with open_image([path]) as source:
        memo = Memo(1 << 24)
        for step, kept in ((4, 0), (8, 1)):
            coarse.read_sample(source, Window(0, 0, 8, 8), step, "key", memo)
            assert len(memo._kept) == kept
