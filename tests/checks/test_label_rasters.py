"""What a look at label rasters finds: strange values wherever they are, nodata that is a class, and their extent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling

from rvbuild.checks.findings import Level
from rvbuild.checks.label_rasters import counts, problems
from rvbuild.geo.grid import Grid

CLASSES = [
    {"id": 0, "name": "ground", "color": "#000000"},
    {"id": 1, "name": "house", "color": "#ff0000"},
    {"id": 2, "name": "null", "color": "#0000ff"},
]
UTM = CRS.from_epsg(32633)
NORTH = Affine(0.5, 0, 500000, 0, -0.5, 5800000)
LARGE = Grid(1200, 1500, NORTH, UTM)
SMALL = Grid(60, 80, NORTH, UTM)
BY_ID: dict[str, Any] = {"kind": "raster", "encoding": "id"}


def write(path: Path, labels: np.ndarray, grid: Grid, **profile: Any) -> Path:
    labels = labels if labels.ndim == 3 else labels[np.newaxis]
    profile = {"crs": grid.crs, "transform": grid.transform, "dtype": labels.dtype, **profile}
    with rasterio.open(
        path, "w", driver="GTiff", height=labels.shape[1], width=labels.shape[2], count=len(labels), **profile
    ) as file:
        file.write(labels)
    return path


def kinds(path: Path, grid: Grid, **settings: Any) -> list[tuple[Level, str]]:
    return [(level, kind) for level, kind, _ in problems([path], {**BY_ID, **settings}, grid, CLASSES, 2)]


def test_a_good_raster(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (1200, 1500)).astype(np.uint8)
    assert kinds(write(tmp_path / "a.tif", labels, LARGE), LARGE) == []
    assert kinds(write(tmp_path / "b.tif", labels, LARGE, nodata=2), LARGE) == []


@pytest.mark.parametrize(("row", "col"), [(0, 0), (700, 1000), (430, 310), (1000, 1300)])
def test_a_patch_as_large_as_a_building_is_seen_anywhere(tmp_path: Path, row: int, col: int) -> None:
    labels = np.zeros((1200, 1500), np.uint8)
    labels[row : row + 120, col : col + 150] = 77
    (kind,) = kinds(write(tmp_path / "a.tif", labels, LARGE), LARGE)
    assert kind[0] is Level.ERROR


def test_the_classes_of_a_small_raster_are_counted(tmp_path: Path) -> None:
    labels = np.full((60, 80), 2, np.uint8)
    labels[:10, :10] = 1
    assert counts([write(tmp_path / "a.tif", labels, SMALL)], BY_ID, SMALL, CLASSES, 2) == [0, 100, 0]
    labels[0, 0] = 7
    assert counts([write(tmp_path / "b.tif", labels, SMALL)], BY_ID, SMALL, CLASSES, 2) is None
    large = write(tmp_path / "c.tif", np.zeros((1200, 1500), np.uint8), LARGE)
    assert counts([large], BY_ID, LARGE, CLASSES, 2) is None


def test_values_of_no_class_are_found_in_one_corner(tmp_path: Path) -> None:
    labels = np.zeros((1200, 1500), np.uint8)
    labels[:200, :300] = 7
    labels[:30] = 9
    (problem,) = problems([write(tmp_path / "a.tif", labels, LARGE)], BY_ID, LARGE, CLASSES, 2)
    assert problem[:2] == (Level.ERROR, "sampled values")
    assert "the label value 7, expected a class id: 0, 1, 2" in problem[2]


def test_all_values_of_a_small_raster_are_told(tmp_path: Path) -> None:
    labels = np.zeros((60, 80), np.uint8)
    labels[3, 4], labels[59, 79] = 7, 9
    (problem,) = problems([write(tmp_path / "a.tif", labels, SMALL)], BY_ID, SMALL, CLASSES, 2)
    assert problem[2].endswith("Values without a class in the windows that were read: 7, 9")


@pytest.mark.parametrize("resampling", [Resampling.nearest, Resampling.average])
def test_overviews_lead_to_values_between_the_windows(tmp_path: Path, resampling: Resampling) -> None:
    labels = np.zeros((1200, 1500), np.uint8)
    labels[:40, :40] = 40
    path = write(tmp_path / "a.tif", labels, LARGE)
    assert kinds(path, LARGE) == []
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4], resampling)
    assert kinds(path, LARGE) == [(Level.ERROR, "sampled values")]


def test_values_that_only_an_overview_has_are_no_values(tmp_path: Path) -> None:
    labels = np.zeros((1200, 1500), np.uint8)
    labels[::2] = 10
    path = write(tmp_path / "a.tif", labels, LARGE)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2], Resampling.average)
    with rasterio.open(path, OVERVIEW_LEVEL=0) as file:
        assert 5 in file.read()
    assert kinds(path, LARGE, map={"0": "ground", "10": "house"}) == []


@pytest.mark.parametrize(
    ("settings", "voided"),
    [
        ({}, "0, is also the value of class ground"),
        ({"nodata": 0}, ""),
        ({"nodata": []}, ""),
        ({"map": {"1": "house"}}, ""),
    ],
)
def test_a_class_that_is_tagged_as_nodata(tmp_path: Path, settings: dict[str, Any], voided: str) -> None:
    path = write(tmp_path / "a.tif", np.ones((60, 80), np.uint8), SMALL, nodata=0)
    texts = [text for _, _, text in problems([path], {**BY_ID, **settings}, SMALL, CLASSES, 2)]
    assert [voided in text for text in texts] == [True] * bool(voided)


def test_a_colour_of_a_class_that_is_tagged_as_nodata(tmp_path: Path) -> None:
    colors = np.zeros((3, 60, 80), np.uint8)
    path = write(tmp_path / "a.tif", colors, SMALL, nodata=0)
    (problem,) = problems([path], {"kind": "raster", "encoding": "rgb"}, SMALL, CLASSES, 2)
    assert "nodata value, #000000, is also the value of class ground" in problem[2]
    with rasterio.open(path, "r+") as file:
        file.nodata = 255
    assert list(problems([path], {"kind": "raster", "encoding": "rgb"}, SMALL, CLASSES, 2)) == []


def test_labels_that_cover_a_part(tmp_path: Path) -> None:
    coarse = Affine(2, 0, 500000, 0, -2, 5800000)
    whole = write(tmp_path / "whole.tif", np.zeros((15, 20), np.uint8), SMALL, transform=coarse)
    assert kinds(whole, SMALL, resample="nearest") == []
    part = write(tmp_path / "part.tif", np.zeros((15, 10), np.uint8), SMALL, transform=coarse)
    (problem,) = problems([part], {**BY_ID, "resample": "nearest"}, SMALL, CLASSES, 2)
    assert problem[1] == "labels cover a part"
    assert "covers 52% of the image" in problem[2]
