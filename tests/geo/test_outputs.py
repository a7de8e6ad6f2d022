from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags

from rvbuild.geo.classes import NODATA, palette
from rvbuild.geo.grid import Grid
from rvbuild.geo.raster.file import open_dataset
from rvbuild.geo.raster.mosaic_source import open_image
from rvbuild.geo.windows import bands
from rvbuild.geo.write.columns import Columns
from rvbuild.geo.write.rasters import ClassRasterWriter, IdRasterWriter, RgbRasterWriter, ScoreRasterWriter

Classes = list[dict[str, Any]]

HEIGHT, WIDTH = 610, 530


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 4, (61, 53))
    made = np.kron(coarse, np.ones((10, 10))).astype(np.uint8)
    made[:40, :] = NODATA
    return made


@pytest.fixture(scope="module")
def scores() -> np.ndarray:
    raw = np.random.default_rng(1).random((4, HEIGHT, WIDTH), dtype=np.float32)
    return raw / raw.sum(axis=0)


def write_all(folder: Path, grid: Grid, classes: Classes, labels: np.ndarray, scores: np.ndarray, rows: int) -> None:
    """Write every kind of raster, `rows` rows at a time."""
    folder.mkdir()
    predicted = labels != NODATA
    with (
        ClassRasterWriter(folder / "labels.tif", grid, classes, temp=folder) as labels_writer,
        RgbRasterWriter(folder / "rgb.tif", grid, classes, temp=folder / "pending.tif") as two,
        ScoreRasterWriter(folder / "float.tif", grid, classes, "float32", temp=folder) as three,
        ScoreRasterWriter(folder / "byte.tif", grid, classes, "uint8", temp=folder) as four,
    ):
        for band in bands(grid.height, grid.width, rows):
            here = slice(band.row, band.row_stop)
            labels_writer.write(band.row, labels[here])
            two.write(band.row, labels[here])
            three.write(band.row, scores[:, here], predicted[here])
            four.write(band.row, np.where(predicted[here], scores[:, here], np.nan))


@pytest.mark.slow
def test_files_have_the_grid_and_the_values_and_the_same_bytes_each_time(
    tmp_path: Path, classes: Classes, labels: np.ndarray, scores: np.ndarray, place: tuple[Affine, CRS | None]
) -> None:
    grid = Grid(HEIGHT, WIDTH, *place)
    for folder, rows in (("one", 128), ("two", 77)):
        write_all(tmp_path / folder, grid, classes, labels, scores, rows)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["byte.tif", "float.tif", "labels.tif", "rgb.tif"], "nothing else remains"
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
        with open_image([tmp_path / "one" / name]) as source:
            assert source.grid == grid
            image, valid = source.read(grid.window)
        np.testing.assert_array_equal(valid, np.broadcast_to(labels != NODATA, image.shape))
        known = valid[0]
        expected = {
            "labels.tif": labels[np.newaxis],
            "rgb.tif": np.moveaxis(palette(classes)[labels], -1, 0),
            "float.tif": scores,
            "byte.tif": np.rint(scores * 255).astype(np.uint8),
        }[name]
        np.testing.assert_array_equal(image[:, known], expected[:, known])


def test_class_rasters_say_what_they_hold(tmp_path: Path, classes: Classes, labels: np.ndarray, grid: Grid) -> None:
    grid = Grid(HEIGHT, WIDTH, grid.transform, grid.crs)
    with ClassRasterWriter(tmp_path / "labels.tif", grid, classes, temp=tmp_path) as writer:
        writer.write(0, labels)
    with rasterio.open(tmp_path / "labels.tif") as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.profile["compress"] == "deflate"
        assert file.profile["tiled"]
        assert file.overviews(1) == [2]
        assert file.nodata == NODATA
        assert file.dtypes == ("uint8",)
        assert file.colorinterp == (ColorInterp.palette,)
        assert file.colormap(1)[1] == (0, 255, 0, 255)
        assert file.tags(1) == {"class_0": "car", "class_1": "tree", "class_2": "ground", "class_3": "null"}
        overview = file.read(1, out_shape=(HEIGHT // 2, WIDTH // 2))
        assert set(np.unique(overview)) <= set(np.unique(labels)), "classes are not averaged"


@pytest.mark.slow
def test_score_rasters_say_what_they_hold(tmp_path: Path, classes: Classes, scores: np.ndarray, grid: Grid) -> None:
    grid = Grid(HEIGHT, WIDTH, grid.transform, grid.crs)
    for kind in ("float32", "uint8"):
        with ScoreRasterWriter(tmp_path / f"{kind}.tif", grid, classes, kind, temp=tmp_path) as writer:
            writer.write(0, scores)
        with rasterio.open(tmp_path / f"{kind}.tif") as file:
            assert file.descriptions == ("car", "tree", "ground", "null")
            assert ColorInterp.alpha not in file.colorinterp
            assert set(file.dtypes) == {kind}
            if kind == "uint8":
                assert file.scales == (1 / 255,) * 4
                assert file.mask_flag_enums[0] == [MaskFlags.per_dataset]
            else:
                assert np.isnan(file.nodata)


def test_a_tiny_scene(tmp_path: Path, classes: Classes) -> None:
    grid = Grid(1, 3, Affine.identity(), None)
    with ClassRasterWriter(tmp_path / "labels.tif", grid, classes, temp=tmp_path) as writer:
        writer.write(0, np.array([[0, 1, NODATA]], np.uint8))
    with open_dataset(tmp_path / "labels.tif") as file:
        assert file.read(1).tolist() == [[0, 1, 255]]


@pytest.mark.parametrize("fail", ["in between", "too few rows"])
def test_a_failure_leaves_no_file(tmp_path: Path, classes: Classes, grid: Grid, fail: str) -> None:
    rows = np.zeros((10, grid.width), np.uint8)
    with (
        pytest.raises(ValueError, match=r"stop|10 of 100 rows were written"),
        ClassRasterWriter(tmp_path / "labels.tif", grid, classes, temp=tmp_path) as writer,
    ):
        writer.write(0, rows)
        if fail == "in between":
            raise ValueError("stop")
    assert not list(tmp_path.iterdir())


def test_rows_come_in_order(tmp_path: Path, classes: Classes, grid: Grid) -> None:
    writer = ClassRasterWriter(tmp_path / "labels.tif", grid, classes, temp=tmp_path)
    writer.write(0, np.zeros((10, grid.width), np.uint8))
    with pytest.raises(ValueError, match="expected rows from 10"):
        writer.write(20, np.zeros((10, grid.width), np.uint8))
    with pytest.raises(ValueError, match="expected rows from 10"):
        writer.write(10, np.zeros((10, grid.width + 1), np.uint8))
    writer.discard()


def test_closing_twice_is_harmless(tmp_path: Path, classes: Classes, grid: Grid) -> None:
    with ClassRasterWriter(tmp_path / "labels.tif", grid, classes, temp=tmp_path) as writer:
        writer.write(0, np.zeros((grid.height, grid.width), np.uint8))
        writer.close()
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["labels.tif"]


@pytest.mark.parametrize("in_memory", [0, 1 << 24])
def test_blocks_give_the_bytes_of_rows(
    tmp_path: Path, classes: Classes, monkeypatch: pytest.MonkeyPatch, in_memory: int
) -> None:
    """Rows of any height, in blocks of any width, in memory or not."""
    grid = Grid(300, 1100, Affine.identity(), None)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (300, 1100), dtype=np.uint8)
    scores = rng.random((2, 300, 1100)).astype(np.float32)
    known = rng.random((300, 1100)) < 0.5
    expected = {}
    for name, rows, cols in (("rows", 300, 1100), ("blocks", 70, 130)):
        if name == "blocks":
            monkeypatch.setattr("rvbuild.geo.write.columns.IN_MEMORY_BYTES", in_memory)
        folder = tmp_path / name
        folder.mkdir()
        with (
            IdRasterWriter(folder / "labels.tif", grid, temp=folder) as of_labels,
            ScoreRasterWriter(folder / "float.tif", grid, classes[:2], "float32", temp=folder) as of_scores,
            ScoreRasterWriter(folder / "bytes.tif", grid, classes[:2], "uint8", temp=folder) as of_bytes,
        ):
            for row in range(0, 300, rows):
                for col in range(0, 1100, cols):
                    here = np.s_[row : row + rows, col : col + cols]
                    of_labels.write(row, labels[here], col)
                    for writer in (of_scores, of_bytes):
                        block = writer.encode(scores[:, *here], known[here])
                        writer.write_encoded(row, block, known[here], col)
        written = {path.name: path.read_bytes() for path in folder.iterdir()}
        expected = expected or written
        assert written == expected
    assert len(expected) == 3


@given(width=st.integers(1, 1300), data=st.data())
@settings(max_examples=30, deadline=None)
def test_columns_in_a_file_are_those_in_memory(width: int, data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rvbuild.geo.write.columns.IN_MEMORY_BYTES", 0)
        columns = Columns(2, 3, width, np.float32)
    expected = np.zeros((2, 3, width), np.float32)
    for number in range(1, data.draw(st.integers(1, 5)) + 1):
        col = data.draw(st.integers(0, width - 1))
        stop = data.draw(st.integers(col + 1, width))
        rows = slice(data.draw(st.integers(0, 2)), 3)
        values = np.full((2, 3 - rows.start, stop - col), number, np.float32)
        columns.write(rows, col, values)
        expected[:, rows, col:stop] = values
        if number == 2:
            columns.shift_up(1)
            expected = np.concatenate([expected[:, 1:], np.zeros((2, 1, width), np.float32)], axis=1)
        np.testing.assert_array_equal(columns.read(rows, col, stop), expected[:, rows, col:stop])
    np.testing.assert_array_equal(columns.read(slice(0, 3), 0, width), expected)
