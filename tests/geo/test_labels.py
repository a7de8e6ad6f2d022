from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rvbuild.geo.grid import Grid
from rvbuild.geo.labels.open import open_labels
from rvbuild.geo.windows import Window


def test_rasters_and_vectors_give_the_same_labels(
    tmp_path: Path,
    write_raster: Callable[..., Path],
    write_geojson: Callable[..., Path],
    square: Callable[..., Any],
    classes: list[dict[str, Any]],
    grid: Grid,
) -> None:
    ids = np.full((100, 120), 3, np.uint8)
    ids[10:40, 20:70] = 1
    raster = write_raster(tmp_path / "labels.tif", ids, crs=grid.crs, transform=grid.transform)
    x, y = grid.to_map(np.array([20.0, 70.0]), np.array([10.0, 40.0]))
    vector = write_geojson(tmp_path / "labels.geojson", [(square(x[0], y[0], x[1], y[1]), {})], crs="EPSG:32633")
    options = {"grid": grid, "classes": classes, "null_id": 3}
    with (
        open_labels([raster], {"kind": "raster", "encoding": "id"}, **options) as from_raster,
        open_labels([vector], {"kind": "vector", "class": "tree"}, **options) as other,
    ):
        for window in (grid.window, Window(-5, 100, 60, 60)):
            np.testing.assert_array_equal(from_raster.read(window), other.read(window))
        assert from_raster.read(grid.window).dtype == other.read(grid.window).dtype == np.uint8


def test_an_unknown_kind_is_a_mistake_of_the_caller(classes: list[dict[str, Any]], grid: Grid) -> None:
    with pytest.raises(ValueError, match="cells"):
        open_labels([], {"kind": "cells"}, grid=grid, classes=classes, null_id=3)
