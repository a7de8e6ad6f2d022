from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS

from rvbuild.geo.classes import NODATA
from rvbuild.geo.grid import Grid
from rvbuild.geo.windows import Window
from rvbuild.geo.write import cog, pyramid, tiles
from rvbuild.geo.write.rasters import IdRasterWriter, IdRows, can_join_ids, colour_ids, join_ids, join_levels
from rvbuild.rules import predict
from tests.stages.sample_scenes import CLASSES, TRANSFORM

TALL = (2 * pyramid.BLOCK_PX + 1300, 40)


def write_ids(path: Path, shape: tuple[int, int], seed: int = 0) -> tuple[np.ndarray, Grid]:
    """Write patches of classes with noise, and a corner without a class."""
    random = np.random.default_rng(seed)
    patches = random.integers(0, 3, (shape[0] // 20 + 1, shape[1] // 20 + 1))
    ids = np.kron(patches, np.ones((20, 20))).astype(np.uint8)[: shape[0], : shape[1]].copy()
    noise = random.random(shape) < 0.1
    ids[noise] = random.choice(np.array([0, 1, 2, NODATA], dtype=np.uint8), noise.sum())
    ids[: shape[0] // 3, : shape[1] // 3] = NODATA
    grid = Grid(*shape, TRANSFORM, CRS.from_epsg(32633))
    with IdRasterWriter(path, grid, temp=path.parent) as writer:
        writer.write(0, ids)
    return ids, grid


def most_frequent(ids: np.ndarray) -> int:
    counts = Counter(value for value in ids.ravel().tolist() if value != NODATA)
    return counts.most_common(1)[0][0] if counts else NODATA


@given(st.integers(0, 1 << 30), st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_a_pixel_of_an_overview_has_the_most_frequent_class_of_four(seed: int, shape: tuple[int, int]) -> None:
    ids = np.random.default_rng(seed).choice(np.array([0, 1, 2, NODATA], dtype=np.uint8), shape)
    half = pyramid.halved(ids)
    assert half.shape == (shape[0] // 2, shape[1] // 2)
    for row, col in np.ndindex(half.shape):
        assert half[row, col] == most_frequent(ids[2 * row : 2 * row + 2, 2 * col : 2 * col + 2])


@pytest.mark.parametrize("shape", [TALL, (700, 1500), (30, 20), (20, 4200)])
def test_the_file_is_what_the_driver_of_gdal_writes(tmp_path: Path, shape: tuple[int, int]) -> None:
    ids, _ = write_ids(tmp_path / "ids.tif", shape)
    path = tmp_path / "labels.tif"
    colour_ids(tmp_path / "ids.tif", path, CLASSES, temp=tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"ids.tif", "labels.tif"}
    with rasterio.open(path) as file:
        level, overviews = file.read(1), len(file.overviews(1))
        assert (level == ids).all()
    assert overviews == len(pyramid.factors(*shape))
    for number in range(overviews):
        level = pyramid.halved(level)
        with rasterio.open(path, overview_level=number) as file:
            assert (file.read(1) == level).all()
    # GDAL copies overviews that are there.
    with rasterio.Env(**cog.ENV):
        rasterio.shutil.copy(path, tmp_path / "copy.tif", driver="COG", **cog.cog_options("mode"))
    assert path.read_bytes() == (tmp_path / "copy.tif").read_bytes()


@pytest.mark.parametrize("height", [TALL[0], pyramid.BLOCK_PX + 3])
def test_strips_give_the_same_file(tmp_path: Path, height: int) -> None:
    _, grid = write_ids(tmp_path / "ids.tif", (height, TALL[1]))
    colour_ids(tmp_path / "ids.tif", tmp_path / "once.tif", CLASSES, temp=tmp_path)
    strips = []
    for first in range(0, height, pyramid.BLOCK_PX):
        folder = tmp_path / str(first)
        folder.mkdir()
        rows = (first, min(height, first + pyramid.BLOCK_PX))
        pyramid.write_levels(tmp_path / "ids.tif", (height, TALL[1]), rows, folder)
        strips.append({path.name: path for path in folder.iterdir()})
    join_levels(strips, tmp_path / "joined.tif", grid, CLASSES, temp=tmp_path)
    assert (tmp_path / "joined.tif").read_bytes() == (tmp_path / "once.tif").read_bytes()


@pytest.mark.parametrize("height", [512, 600])
def test_ids_of_strips_are_joined_without_decoding(tmp_path: Path, height: int) -> None:
    ids, grid = write_ids(tmp_path / "once.tif", (height, 1100))
    parts = []
    # Strips have rows of their neighbours, which nobody reads.
    for first, stop, top, bottom in ((0, 128, 0, 200), (128, 384, 0, 512), (384, height, 256, height)):
        part = ids[top:bottom].copy()
        part[: first - top] = part[stop - top :] = 2
        rows = grid.crop(Window(top, 0, bottom - top, grid.width))
        with IdRasterWriter(tmp_path / f"{first}.tif", rows, temp=tmp_path) as writer:
            writer.write(0, part)
        parts.append(IdRows(tmp_path / f"{first}.tif", top, first, stop))
    assert can_join_ids(parts, grid)
    join_ids(parts, tmp_path / "joined.tif", grid, temp=tmp_path)
    assert (tmp_path / "joined.tif").read_bytes() == (tmp_path / "once.tif").read_bytes()
    assert not list(tmp_path.glob("*.empty"))
    for moved in ({"top": 100}, {"first": 8}, {"stop": height - 1}):
        assert not can_join_ids([*parts[:2], parts[2]._replace(**moved)], grid)


def test_large_files_are_big_tiffs(tmp_path: Path) -> None:
    # 2.2 GB without compression, of which no tile is written.
    with rasterio.open(
        tmp_path / "empty.tif",
        "w",
        driver="GTiff",
        count=1,
        dtype="uint8",
        height=46_000,
        width=48_000,
        bigtiff="if_safer",
        **{"tiled": True, "blockxsize": 512, "blockysize": 512, "sparse_ok": True},
    ):
        pass
    content = (tmp_path / "empty.tif").read_bytes()
    assert content[:4] == b"II\x2b\x00"
    (image,) = tiles._images(tmp_path / "empty.tif")
    assert len(image.offsets.values) == len(image.sizes.values) == 90 * 94


def test_a_file_with_too_few_or_too_many_tiles_is_refused(tmp_path: Path) -> None:
    write_ids(tmp_path / "ids.tif", (600, 20))
    levels = pyramid.write_levels(tmp_path / "ids.tif", (600, 20), (0, 600), tmp_path)
    assert [path.name for path in levels] == ["level-0.tif", "level-1.tif"]
    colour_ids(tmp_path / "ids.tif", tmp_path / "full.tif", CLASSES, temp=tmp_path)
    image, half = levels
    for parts, problem in (
        ([[image], []], "0 of 1 tiles"),
        ([[image], [half, half]], "more tiles than the 1"),
        ([[image]], "1 levels for a file of 2"),
    ):
        with pytest.raises(ValueError, match=problem):
            of_levels = [[tiles.Part(file) for file in files] for files in parts]
            tiles.assemble_cog(tmp_path / "full.tif", of_levels, tmp_path / "made.tif")


def test_strips_of_the_rule_begin_with_blocks() -> None:
    assert predict.BLOCK_ROWS == pyramid.BLOCK_PX
