"""Rasters and vectors laid over each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine

from rvbuild.errors import LabelValueError
from rvbuild.geo.grid import Grid
from rvbuild.geo.labels.open import LabelSource, open_labels
from rvbuild.geo.windows import Window

Write = Callable[..., Path]
GRID = Grid(20, 30, Affine.identity(), None)
CAR, TREE, GROUND, NULL = range(4)
RASTER = {"kind": "raster", "encoding": "id"}


def box(x0: float, y0: float, x1: float, y1: float) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [[[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]]}


@pytest.fixture
def land(tmp_path: Path, write_raster: Write) -> Path:
    """Trees above, ground below, nothing (9) in the last columns."""
    ids = np.full((20, 30), TREE, dtype=np.uint8)
    ids[10:], ids[:, 25:] = GROUND, 9
    return write_raster(tmp_path / "land.tif", ids, nodata=9)


@pytest.fixture
def opened(classes: list[dict[str, Any]]) -> Callable[..., LabelSource]:
    def open_them(*layers: tuple[Path, dict[str, Any]], background: str | None = None) -> LabelSource:
        settings = {"kind": "layers", "background": background, "parts": [{"files": 1, **part} for _, part in layers]}
        return open_labels([path for path, _ in layers], settings, grid=GRID, classes=classes, null_id=NULL)

    return open_them


@pytest.fixture
def cars(tmp_path: Path, write_geojson: Write) -> tuple[Path, dict[str, Any]]:
    path = write_geojson(tmp_path / "cars.geojson", [(box(5, 8, 28, 12), {})])
    return path, {"kind": "vector", "class": "car"}


def test_later_layers_cover_earlier_ones_where_they_say_something(land: Path, cars: Any, opened: Any) -> None:
    expected = np.full((20, 30), TREE, dtype=np.uint8)
    expected[10:], expected[:, 25:] = GROUND, NULL
    with opened((land, RASTER), cars) as source:
        over = expected.copy()
        over[8:12, 5:28] = CAR
        np.testing.assert_array_equal(source.read(GRID.window), over)
    with opened(cars, (land, RASTER)) as source:
        under = expected.copy()
        under[8:12, 25:28] = CAR  # where the raster says nothing
        np.testing.assert_array_equal(source.read(GRID.window), under)
        around = source.read(Window(-3, -2, 30, 40))
        np.testing.assert_array_equal(around[3:23, 2:32], under)
        assert (around[:3] == NULL).all() and (around[:, 32:] == NULL).all()


def test_the_background_is_where_no_layer_says_anything(land: Path, cars: Any, opened: Any) -> None:
    with opened((land, RASTER), cars, background="ground") as source:
        labels = source.read(Window(0, 20, 20, 15))
    assert (labels[:8, 5:10] == GROUND).all() and (labels[8:12, :8] == CAR).all()
    assert (labels[:, 10:] == NULL).all(), "outside the scene nothing is"


def test_a_feature_of_the_null_class_takes_away_what_is_below(
    land: Path, opened: Any, tmp_path: Path, write_geojson: Write
) -> None:
    clouds = write_geojson(tmp_path / "clouds.geojson", [(box(0, 0, 10, 10), {})])
    with opened((land, RASTER), (clouds, {"kind": "vector", "class": "null"}), background="car") as source:
        labels = source.read(GRID.window)
    assert (labels[:10, :10] == NULL).all() and (labels[:10, 10:25] == TREE).all()


def test_colours_of_nodata_say_nothing(cars: Any, opened: Any, tmp_path: Path, write_raster: Write) -> None:
    colors = np.zeros((3, 20, 30), dtype=np.uint8)
    colors[1, :, :6] = 255  # tree; the rest is black, the colour of the null class, and nodata
    path = write_raster(tmp_path / "rgb.tif", colors, nodata=0)
    with opened(cars, (path, {"kind": "raster", "encoding": "rgb"})) as source:
        labels = source.read(GRID.window)
    assert (labels[:, :6] == TREE).all() and (labels[8:12, 6:28] == CAR).all() and (labels[12:, 6:] == NULL).all()


def test_a_digest_follows_what_each_layer_says_there(
    land: Path, cars: Any, opened: Any, tmp_path: Path, write_geojson: Write, write_raster: Write
) -> None:
    left, right = Window(0, 0, 20, 10), Window(0, 20, 20, 10)
    with opened((land, RASTER), cars) as source:
        before = [source.digest(window) for window in (left, right)]
    write_geojson(tmp_path / "more.geojson", [(box(5, 8, 28, 12), {}), (box(22, 0, 24, 4), {})])
    with opened((land, RASTER), (tmp_path / "more.geojson", cars[1])) as source:
        after = [source.digest(window) for window in (left, right)]
    assert after[0] == before[0] and after[1] != before[1]
    ids = np.full((20, 30), TREE, dtype=np.uint8)
    ids[10:], ids[:, 25:], ids[0, 0] = GROUND, 9, GROUND
    write_raster(tmp_path / "edited.tif", ids, nodata=9)
    with opened((tmp_path / "edited.tif", RASTER), cars) as source:
        after = [source.digest(window) for window in (left, right)]
    assert after[0] != before[0] and after[1] == before[1]


def test_a_value_of_no_class_is_an_error_also_where_it_is_covered(
    cars: Any, opened: Any, tmp_path: Path, write_raster: Write
) -> None:
    path = write_raster(tmp_path / "odd.tif", np.full((20, 30), 7, dtype=np.uint8))
    with opened((path, RASTER), cars) as source, pytest.raises(LabelValueError, match="label value 7"):
        source.read(Window(8, 5, 4, 4))
