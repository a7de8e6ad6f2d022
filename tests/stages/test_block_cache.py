from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import rasterio.shutil

from rvbuild.geo.raster import mosaic_source
from rvbuild.geo.raster.cropped import Cropped
from rvbuild.geo.raster.mosaic_source import KEEP_WINDOWS, open_image
from rvbuild.geo.windows import Window
from rvbuild.stages.threads import block_cache as module
from rvbuild.stages.threads.block_cache import block_cache, readers_of
from tests.stages.sample_scenes import write_raster

FOUR_BANDS = {"photometric": "minisblack", "alpha": "unspecified"}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tiles = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    return write_raster(tmp_path / "image.tif", np.zeros((4, 100, 200), dtype=np.uint16), **FOUR_BANDS, **tiles)


@pytest.mark.parametrize(
    ("layout", "pixel_bytes"),
    [({}, 8), ({"labels": True}, 8), ({"readers": 3}, 24), ({"readers": 2, "labels": True}, 16)],
)
def test_holds_what_a_row_of_windows_touches(
    image: Path, monkeypatch: pytest.MonkeyPatch, layout: dict[str, int], pixel_bytes: int
) -> None:
    labels = (30 + 2 * 256) * 200 * 3 * layout.get("readers", 1) * layout.get("labels", 0)
    monkeypatch.setattr(module, "MIN_BYTES", 0)
    with open_image([image], channels=[0]) as source:
        env = block_cache(source, 30, **layout)  # type: ignore[arg-type]
    assert env.options["GDAL_CACHEMAX"] == (30 + 2 * 64) * 200 * pixel_bytes + labels


def test_is_bounded(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_image([image]) as source:
        assert block_cache(source, 30).options["GDAL_CACHEMAX"] == module.MIN_BYTES
        monkeypatch.setattr(module, "MIN_BYTES", 1)
        monkeypatch.setattr(module, "MAX_BYTES", 1000)
        assert block_cache(source, 30).options["GDAL_CACHEMAX"] == 1000


@pytest.mark.parametrize(("room", "readers"), [(0.9, 4), (1, 1), (2.9, 2), (9, 4)])
def test_as_many_threads_read_as_have_room(
    image: Path, monkeypatch: pytest.MonkeyPatch, room: float, readers: int
) -> None:
    with open_image([image]) as source:
        monkeypatch.setattr(module, "MAX_BYTES", int(room * source.cache_bytes(30, 200)))
        assert readers_of(source, 30, most=4) == readers


def _kept(path: Path, *, rows: int = 64) -> int:
    with open_image([path]) as source:
        return source.cache_bytes(rows, source.grid.width)


def test_wide_scenes_in_small_tiles_keep_what_neighbours_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = {"tiled": True, "blockxsize": 16, "blockysize": 32}
    path = write_raster(tmp_path / "wide.tif", np.zeros((70, 900), dtype=np.uint8), **tiles)
    row_bytes = (64 + 2 * 32) * 900
    monkeypatch.setattr(mosaic_source, "KEEP_ROW_BYTES", row_bytes)
    assert _kept(path) == row_bytes
    monkeypatch.setattr(mosaic_source, "KEEP_ROW_BYTES", row_bytes - 1)
    assert _kept(path) == (64 + 2 * 32) * (KEEP_WINDOWS * 64 + 2 * 16)
    assert _kept(path, rows=31) == (31 + 2 * 32) * 900, "tiles taller than windows"


@pytest.mark.parametrize("driver", ["GTiff", "VRT"])
def test_strips_are_kept_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
    monkeypatch.setattr(mosaic_source, "KEEP_ROW_BYTES", 0)
    path = write_raster(tmp_path / "strips.tif", np.zeros((70, 9000), dtype=np.uint8), blockysize=2)
    if driver == "VRT":
        virtual = tmp_path / "strips.vrt"
        rasterio.shutil.copy(path, virtual, driver="VRT")
        # As gdalbuildvrt writes it: its blocks are small, but a file in strips is read for them.
        virtual.write_text(re.sub(r' block[XY]Size="\d+"', "", virtual.read_text()))
        assert _kept(virtual, rows=512) == (512 + 2 * 70) * 9000
    else:
        assert _kept(path) == (64 + 2 * 2) * 9000
        with open_image([path]) as source:
            part = Cropped(source, Window(0, 300, 70, 100))
            assert part.cache_bytes(64, 100) == (64 + 2 * 2) * 9000, "GDAL decodes whole strips for a part of them"


def test_a_part_of_a_tiled_scene_keeps_the_tiles_that_it_touches(image: Path) -> None:
    with open_image([image]) as source:
        part = Cropped(source, Window(0, 100, 100, 10))
        assert part.cache_bytes(30, 10) == (30 + 2 * 64) * (10 + 2 * 64) * 8
