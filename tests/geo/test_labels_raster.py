from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from rvbuild.errors import DataError
from rvbuild.geo.classes import palette
from rvbuild.geo.grid import Grid
from rvbuild.geo.labels.open import LabelSource, open_labels
from rvbuild.geo.windows import Window

Write = Callable[..., Path]
Classes = list[dict[str, Any]]

NULL = 3
BY_ID = {"kind": "raster", "encoding": "id"}
BY_COLOR = {"kind": "raster", "encoding": "rgb"}


@pytest.fixture
def ids() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 4, (100, 120)).astype(np.uint8)


@pytest.fixture
def georeference(grid: Grid) -> dict[str, Any]:
    return {"crs": grid.crs, "transform": grid.transform}


@pytest.fixture
def open_one(grid: Grid, classes: Classes) -> Callable[..., LabelSource]:
    def open_it(path: Path, settings: dict[str, Any] = BY_ID, *, on: Grid = grid, **more: Any) -> LabelSource:
        return open_labels([path], {**settings, **more}, grid=on, classes=classes, null_id=NULL)

    return open_it


Open = Callable[..., LabelSource]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.int32, np.int64, np.float32])
def test_ids_of_any_dtype(
    tmp_path: Path, write_raster: Write, open_one: Open, ids: np.ndarray, georeference: dict[str, Any], dtype: Any
) -> None:
    path = write_raster(tmp_path / "labels.tif", ids.astype(dtype), **georeference)
    with open_one(path) as source:
        np.testing.assert_array_equal(source.read(Window(0, 0, 100, 120)), ids)
        expected = np.full((30, 30), NULL, np.uint8)
        expected[5:, :20] = ids[:25, 100:]
        np.testing.assert_array_equal(source.read(Window(-5, 100, 30, 30)), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32])
def test_ids_are_mapped(
    tmp_path: Path, write_raster: Write, open_one: Open, georeference: dict[str, Any], dtype: Any
) -> None:
    values = np.full((100, 120), 7, dtype)
    values[3, 4] = 100
    path = write_raster(tmp_path / "labels.tif", values, **georeference)
    mapping = {"7": "tree", "100": "car", "5000": "car"}
    with open_one(path, map=mapping) as source:
        labels = source.read(Window(0, 0, 100, 120))
    assert labels[3, 4] == 0
    assert (labels == 1).sum() == 100 * 120 - 1


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
def test_a_value_of_no_class_is_told(
    tmp_path: Path, write_raster: Write, open_one: Open, ids: np.ndarray, georeference: dict[str, Any], dtype: Any
) -> None:
    values = ids.astype(dtype)
    values[50, 60] = values[70, 7] = 9
    path = write_raster(tmp_path / "labels.tif", values, **georeference)
    with open_one(path) as source:
        np.testing.assert_array_equal(source.read(Window(0, 0, 50, 120)), ids[:50])
        with pytest.raises(DataError) as caught:
            source.read(Window(40, 0, 60, 120))
    message = str(caught.value)
    assert (
        "labels.tif: in the window at row 40, column 0 (60 x 120 px) 2 pixels have, first at row 50, column 60"
        in message
    )
    assert "the label value 9" in message
    assert "expected a class id: 0, 1, 2, 3 (car, tree, ground, null)" in message
    with open_one(path, other="tree") as source:
        assert source.read(Window(50, 60, 1, 1)) == 1


def test_a_value_that_the_map_lacks_is_told(
    tmp_path: Path, write_raster: Write, open_one: Open, ids: np.ndarray, georeference: dict[str, Any]
) -> None:
    path = write_raster(tmp_path / "labels.tif", ids, **georeference)
    with open_one(path, map={"0": "car", "1": "tree", "2": "car"}) as source, pytest.raises(DataError) as caught:
        source.read(Window(0, 0, 100, 120))
    assert "expected a key of `labels.map`: 0, 1, 2" in str(caught.value)
    with pytest.raises(DataError, match='whole numbers as keys, found "one"'):
        open_one(path, map={"one": "car"})
    with pytest.raises(DataError, match=r'labels\.map\.1: there is no class "cars"; did you mean "car"'):
        open_one(path, map={"1": "cars"})


def test_nodata_is_null_and_never_class_0(
    tmp_path: Path, write_raster: Write, open_one: Open, ids: np.ndarray, georeference: dict[str, Any]
) -> None:
    values = ids.copy()
    values[:10] = 200
    tagged = write_raster(tmp_path / "tagged.tif", values, nodata=200, **georeference)
    plain = write_raster(tmp_path / "plain.tif", values, **georeference)
    expected = np.where(values == 200, NULL, ids)
    for path, more in ((tagged, {}), (plain, {"nodata": 200})):
        with open_one(path, **more) as source:
            np.testing.assert_array_equal(source.read(Window(0, 0, 100, 120)), expected)
    masked = write_raster(tmp_path / "masked.tif", values, mask=values != 200, **georeference)
    with open_one(masked) as source:
        np.testing.assert_array_equal(source.read(Window(0, 0, 100, 120)), expected)


def test_zero_as_nodata_is_null(
    tmp_path: Path, write_raster: Write, open_one: Open, ids: np.ndarray, georeference: dict[str, Any]
) -> None:
    path = write_raster(tmp_path / "labels.tif", ids, nodata=0, **georeference)
    with open_one(path) as source:
        np.testing.assert_array_equal(source.read(Window(0, 0, 100, 120)), np.where(ids == 0, NULL, ids))


def test_colors(
    tmp_path: Path,
    write_raster: Write,
    open_one: Open,
    ids: np.ndarray,
    georeference: dict[str, Any],
    classes: Classes,
) -> None:
    colors = np.moveaxis(palette(classes)[ids], -1, 0)
    path = write_raster(tmp_path / "labels.tif", colors, **georeference)
    with open_one(path, BY_COLOR) as source:
        np.testing.assert_array_equal(source.read(Window(0, 0, 100, 120)), ids)
        assert (source.read(Window(-5, -5, 5, 50)) == NULL).all()


def test_black_as_nodata_does_not_void_other_colors(
    tmp_path: Path,
    write_raster: Write,
    open_one: Open,
    ids: np.ndarray,
    georeference: dict[str, Any],
    classes: Classes,
) -> None:
    colors = np.moveaxis(palette(classes)[ids], -1, 0)
    for nodata in (0, 255):
        path = write_raster(tmp_path / f"{nodata}.tif", colors, nodata=nodata, **georeference)
        with open_one(path, BY_COLOR) as source:
            np.testing.assert_array_equal(source.read(Window(0, 0, 100, 120)), ids)


def test_alpha_of_colors_is_null(
    tmp_path: Path,
    write_raster: Write,
    open_one: Open,
    ids: np.ndarray,
    georeference: dict[str, Any],
    classes: Classes,
) -> None:
    alpha = np.full((1, 100, 120), 255, np.uint8)
    alpha[0, :3] = 0
    colors = np.concatenate([np.moveaxis(palette(classes)[ids], -1, 0), alpha])
    path = write_raster(tmp_path / "labels.tif", colors, photometric="rgb", alpha="yes", **georeference)
    with open_one(path, BY_COLOR) as source:
        labels = source.read(Window(0, 0, 100, 120))
    assert (labels[:3] == NULL).all()
    np.testing.assert_array_equal(labels[3:], ids[3:])


def test_a_color_of_no_class_is_told(
    tmp_path: Path,
    write_raster: Write,
    open_one: Open,
    ids: np.ndarray,
    georeference: dict[str, Any],
    classes: Classes,
) -> None:
    colors = np.moveaxis(palette(classes)[ids], -1, 0).copy()
    colors[:, 20, 30:33] = [[10], [20], [1]]
    colors[:, 21, 30] = [9, 9, 0]
    path = write_raster(tmp_path / "labels.tif", colors, **georeference)
    with open_one(path, BY_COLOR) as source, pytest.raises(DataError) as caught:
        source.read(Window(10, 10, 50, 50))
    message = str(caught.value)
    assert "3 pixels have, first at row 20, column 30, the colour #0a1401, expected the colour of a class" in message
    assert "#ffff00 (car)" in message
    assert 'other = "class"' in message
    with open_one(path, BY_COLOR, other="ground") as source:
        labels = source.read(Window(0, 0, 100, 120))
    assert (labels[20, 30:33] == 2).all()
    assert labels[21, 30] == 2


def test_a_palette_holds_colors(
    tmp_path: Path,
    write_raster: Write,
    open_one: Open,
    ids: np.ndarray,
    classes: Classes,
) -> None:
    colormap = {10 + i: (*map(int, palette(classes)[i]), 255) for i in range(4)}
    path = write_raster(tmp_path / "labels.png", (ids + 10).astype(np.uint8), driver="PNG", colormap=colormap)
    with open_one(path, BY_COLOR) as source:
        np.testing.assert_array_equal(source.read(Window(0, 0, 100, 120)), ids)


def test_the_wrong_encoding_is_told(
    tmp_path: Path, write_raster: Write, open_one: Open, ids: np.ndarray, georeference: dict[str, Any]
) -> None:
    three = write_raster(tmp_path / "three.tif", np.stack([ids] * 3), **georeference)
    single_band = write_raster(tmp_path / "one.tif", ids, **georeference)
    with pytest.raises(DataError, match=r'three\.tif: expected one band of class ids, found 3.*encoding = "rgb"'):
        open_one(three)
    with pytest.raises(DataError, match=r'one\.tif: expected three uint8 bands.*found 1 of uint8.*encoding = "id"'):
        open_one(single_band, BY_COLOR)


def test_labels_of_several_files_are_a_mosaic(
    tmp_path: Path, write_raster: Write, classes: Classes, grid: Grid, ids: np.ndarray
) -> None:
    paths = [
        write_raster(tmp_path / f"{col}.tif", ids[:, col : col + 60], crs=grid.crs, transform=grid.transform_at(0, col))
        for col in (0, 60)
    ]
    with open_labels(paths, BY_ID, grid=grid, classes=classes, null_id=NULL) as source:
        np.testing.assert_array_equal(source.read(grid.window), ids)


def test_a_mosaic_of_palettes_has_one_table(
    tmp_path: Path, write_raster: Write, classes: Classes, grid: Grid, ids: np.ndarray
) -> None:
    colors = {index: (*map(int, color), 255) for index, color in enumerate(palette(classes)[:4])}

    def read(*tables: dict[int, tuple[int, ...]] | None) -> np.ndarray:
        paths = [
            write_raster(
                tmp_path / f"{col}.tif",
                ids[:, col : col + 60],
                crs=grid.crs,
                transform=grid.transform_at(0, col),
                colormap=table,
            )
            for col, table in zip((0, 60), tables, strict=True)
        ]
        with open_labels(paths, BY_COLOR, grid=grid, classes=classes, null_id=NULL) as source:
            return source.read(grid.window)

    np.testing.assert_array_equal(read({**colors, 9: (4, 4, 4, 255)}, {**colors, 9: (1, 2, 3, 255)}), ids)
    with pytest.raises(DataError, match=r"60\.tif: index 0 of its colour table is #.{6}, but #.{6} in .*0\.tif"):
        read(colors, {**colors, 0: colors[1], 1: colors[0]})
    with pytest.raises(DataError, match=r"60\.tif: has no colour table, but .*0\.tif"):
        read(colors, None)


def test_labels_without_georeference_lie_on_an_image_of_their_size(
    tmp_path: Path, write_raster: Write, open_one: Open, ids: np.ndarray
) -> None:
    path = write_raster(tmp_path / "labels.png", ids, driver="PNG")
    with open_one(path) as source:
        np.testing.assert_array_equal(source.read(Window(0, 0, 100, 120)), ids)


def test_another_grid_is_told_or_resampled(
    tmp_path: Path, write_raster: Write, open_one: Open, ids: np.ndarray, grid: Grid
) -> None:
    coarse = ids[::2, ::2]
    transform = Affine(0.1, 0, grid.transform.c, 0, -0.1, grid.transform.f)
    path = write_raster(tmp_path / "labels.tif", coarse, crs=grid.crs, transform=transform)
    with pytest.raises(DataError) as caught:
        open_one(path)
    message = str(caught.value)
    assert "labels: 60 x 50 px (width x height), pixel 0.1 x -0.1" in message
    assert "image: 120 x 100 px" in message
    assert '`resample = "nearest"`' in message
    expected = np.kron(coarse, np.ones((2, 2), np.uint8))
    with open_one(path, resample="nearest") as source:
        np.testing.assert_array_equal(source.read(Window(0, 0, 100, 120)), expected)
        np.testing.assert_array_equal(source.read(Window(33, 45, 17, 13)), expected[33:50, 45:58])
        overhang = source.read(Window(95, 115, 10, 10))
        np.testing.assert_array_equal(overhang[:5, :5], expected[95:, 115:])
        assert (overhang[5:] == NULL).all()
        assert (source.read(Window(500, 500, 3, 3)) == NULL).all()


def test_a_finer_grid_is_read_at_pixel_centres(
    tmp_path: Path, write_raster: Write, open_one: Open, ids: np.ndarray, grid: Grid
) -> None:
    fine = np.full((300, 360), 9, np.uint8)
    fine[1::3, 1::3] = ids
    transform = Affine(0.05 / 3, 0, grid.transform.c, 0, -0.05 / 3, grid.transform.f)
    path = write_raster(tmp_path / "labels.tif", fine, crs=grid.crs, transform=transform)
    with open_one(path, resample="nearest") as source:
        np.testing.assert_array_equal(source.read(Window(0, 0, 100, 120)), ids)


def test_labels_that_cover_a_part_are_null_elsewhere(
    tmp_path: Path, write_raster: Write, open_one: Open, ids: np.ndarray, grid: Grid
) -> None:
    part = ids[20:60, 30:90]
    path = write_raster(tmp_path / "labels.tif", part, crs=grid.crs, transform=grid.transform_at(20, 30))
    expected = np.full((100, 120), NULL, np.uint8)
    expected[20:60, 30:90] = part
    with open_one(path, resample="nearest") as source:
        np.testing.assert_array_equal(source.read(Window(0, 0, 100, 120)), expected)
        assert (source.read(Window(0, 0, 10, 10)) == NULL).all()


def test_another_crs_is_resampled_exactly(tmp_path: Path, write_raster: Write, classes: Classes) -> None:
    grid = Grid(60, 80, Affine(10, 0, 366000, 0, -10, 5810000), CRS.from_epsg(32633))
    # Half of the labels, east of a meridian, are trees.
    values = np.zeros((200, 300), np.uint8)
    values[:, 150:] = 1
    transform = Affine(1e-4, 0, 13.02, 0, -1e-4, 52.43)
    path = write_raster(tmp_path / "labels.tif", values, crs="EPSG:4326", transform=transform)
    settings = {**BY_ID, "resample": "nearest"}
    with open_labels([path], settings, grid=grid, classes=classes, null_id=NULL) as source:
        labels = source.read(grid.window)
    from rasterio.warp import transform as reproject

    cols, rows = np.meshgrid(np.arange(80) + 0.5, np.arange(60) + 0.5)
    x, y = grid.to_map(cols.ravel(), rows.ravel())
    longitude, latitude = (np.array(v).reshape(60, 80) for v in reproject(grid.crs, "EPSG:4326", x, y))
    inside = (longitude > 13.02) & (longitude < 13.05) & (latitude < 52.43) & (latitude > 52.41)
    expected = np.where(inside, longitude > 13.02 + 150e-4, NULL)
    np.testing.assert_array_equal(labels, expected)
    assert {0, 1} <= set(np.unique(labels).tolist())


@pytest.mark.parametrize(
    ("label_crs", "label_transform", "image", "message"),
    [
        (None, None, (Affine(1, 0, 500, 0, -1, 500), "EPSG:32633"), "labels are not georeferenced"),
        ("EPSG:32633", Affine(1, 0, 500, 0, -1, 500), (Affine.identity(), None), "the image has no CRS"),
    ],
)
def test_what_cannot_be_placed_is_not_resampled(
    tmp_path: Path,
    write_raster: Write,
    open_one: Open,
    label_crs: str | None,
    label_transform: Affine | None,
    image: tuple[Affine, str | None],
    message: str,
) -> None:
    georeference = {"crs": label_crs, "transform": label_transform} if label_crs else {}
    path = write_raster(tmp_path / "labels.tif", np.zeros((10, 10), np.uint8), **georeference)
    on = Grid(20, 20, image[0], image[1] and CRS.from_string(image[1]))
    with pytest.raises(DataError, match=message):
        open_one(path, on=on, resample="nearest")


def test_labels_of_an_image_without_crs_are_placed_by_their_transform(
    tmp_path: Path, write_raster: Write, open_one: Open, ids: np.ndarray
) -> None:
    on = Grid(100, 120, Affine.identity(), None)
    path = write_raster(tmp_path / "labels.tif", ids[:50, :60])
    with open_one(path, on=on, resample="nearest") as source:
        labels = source.read(Window(0, 0, 100, 120))
    np.testing.assert_array_equal(labels[:50, :60], ids[:50, :60])
    assert (labels[50:] == NULL).all()
    assert (labels[:, 60:] == NULL).all()


def test_a_mistake_closes_the_files(tmp_path: Path, write_raster: Write, open_one: Open, ids: np.ndarray) -> None:
    path = write_raster(tmp_path / "labels.tif", ids)
    with pytest.raises(DataError, match=r"labels\.other"):
        open_one(path, other="nothing")


@pytest.mark.parametrize("georeferenced", [True, False])
def test_labels_of_the_whole_image_fit_a_part_of_it(
    tmp_path: Path, write_raster: Any, classes: list[dict[str, Any]], grid: Grid, georeferenced: bool
) -> None:
    ids = np.random.default_rng(0).integers(0, 3, (grid.height, grid.width), dtype=np.uint8)
    where = {"transform": grid.transform, "crs": grid.crs} if georeferenced else {}
    image = grid if georeferenced else Grid(grid.height, grid.width, Affine.identity(), None)
    path = write_raster(tmp_path / "labels.tif", ids, **where)
    place = Window(20, 30, 50, 60)
    settings = {"kind": "raster", "encoding": "id", "map": None, "other": "error", "nodata": None, "resample": "error"}
    with open_labels([path], settings, grid=image.crop(place), classes=classes, null_id=3) as labels:
        np.testing.assert_array_equal(labels.read(Window(0, 0, 50, 60)), ids[20:70, 30:90])
        # Beyond the part there are labels, but no scene.
        beyond = labels.read(Window(45, 55, 10, 10))
    assert (beyond[:5, :5] == ids[65:70, 85:90]).all()
    assert (beyond[5:] == 3).all() and (beyond[:, 5:] == 3).all()
    with pytest.raises(DataError, match="expected labels on the pixel grid of the image"):
        open_labels([path], settings, grid=image.crop(Window(60, 80, 50, 60)), classes=classes, null_id=3)


@pytest.mark.parametrize("west", [190.0, -170.0], ids=["image to 360", "labels to 360"])
def test_labels_that_count_longitudes_otherwise(
    tmp_path: Path, write_raster: Write, open_one: Open, ids: np.ndarray, west: float
) -> None:
    crs, other = CRS.from_epsg(4326), west - 360 if west > 0 else west + 360
    path = write_raster(tmp_path / "labels.tif", ids, crs=crs, transform=Affine(0.01, 0, other, 0, -0.01, 5))
    on = Grid(50, 60, Affine(0.01, 0, west + 0.1, 0, -0.01, 5), crs)
    with open_one(path, on=on, resample="nearest") as source:
        np.testing.assert_array_equal(source.read(Window(0, 0, 50, 60)), ids[:50, 10:70])


def test_a_rounded_nodata_of_real_labels(
    tmp_path: Path, write_raster: Write, open_one: Open, ids: np.ndarray, georeference: dict[str, Any]
) -> None:
    values = ids.astype(np.float32)
    values[:10] = np.finfo(np.float32).min
    path = write_raster(tmp_path / "labels.tif", values, nodata=-3.4e38, **georeference)
    with open_one(path) as source:
        labels = source.read(Window(0, 0, 100, 120))
    assert (labels[:10] == NULL).all()
    np.testing.assert_array_equal(labels[10:], ids[10:])


@pytest.mark.parametrize("nodata", [np.nan, np.inf, -np.inf, 300.5])
def test_a_nodata_that_is_no_number_of_a_class(
    tmp_path: Path, write_raster: Write, open_one: Open, ids: np.ndarray, georeference: dict[str, Any], nodata: float
) -> None:
    values = ids.astype(np.float32)
    values[:10] = nodata
    path = write_raster(tmp_path / "labels.tif", values, nodata=nodata, **georeference)
    with open_one(path) as source:
        labels = source.read(Window(0, 0, 100, 120))
    assert (labels[:10] == NULL).all()
    np.testing.assert_array_equal(labels[10:], ids[10:])
