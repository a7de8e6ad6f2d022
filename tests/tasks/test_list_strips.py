"""Strips of boxes and of cells: lists of windows, one after another."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import rasterio.crs

from rvbuild import tasks
from rvbuild.errors import DataError
from rvbuild.geo.area.aoi import open_aoi
from rvbuild.geo.grid import Grid
from rvbuild.geo.windows import Window, sliding
from rvbuild.progress import Silent
from rvbuild.stages.window_rows import WindowRows
from rvbuild.tasks.strips import Strip
from tests.stages.sample_scenes import CLASSES, CRS, NULL, TRANSFORM, write_aoi

GRID = Grid(70, 50, TRANSFORM, None)
CUTS = [0, 20, 60, 70]


class Found(NamedTuple):
    boxes: np.ndarray
    scores: np.ndarray
    outputs: np.ndarray


def settings(task: str) -> dict[str, Any]:
    predict = {"batch_size": 1, "stride_px": 10, "cell_px": 10}
    return {"task": task, "classes": CLASSES, "null_id": NULL, "chip_px": 20, "predict": predict}


def prediction(task: str, window: Window) -> Any:
    """Return what a network might give for a window: the same each time."""
    random = np.random.default_rng((window.row, window.col))
    if task == "chip_classification":
        return random.random(2, dtype=np.float32)
    count = int(random.integers(0, 4))
    corner = random.random((count, 2), dtype=np.float32) * 9
    boxes = np.concatenate([corner, corner + 5], axis=1)
    return Found(boxes, random.random(count, dtype=np.float32), random.integers(0, 2, count))


@pytest.mark.parametrize("name", ["object_detection", "chip_classification"])
def test_the_joined_list_is_that_of_one_pass(tmp_path: Path, name: str) -> None:
    task, of = tasks.get(name), settings(name)
    size, stride = task.placing(of)
    windows = [window for window in sliding(GRID.height, GRID.width, size, stride) if window.col != 30]
    (tmp_path / "once").mkdir()
    once = task.merger(GRID, tmp_path / "once", of)
    for window in windows:
        once.add(window, prediction(name, window), np.ones((size, size), dtype=bool))
    once.finish()

    strips = []
    rows = WindowRows(size, stride, stride)
    for first, stop in itertools.pairwise(CUTS):
        folder = tmp_path / str(first)
        folder.mkdir()
        groups = rows.own(first, stop)
        top, bottom = rows.pixels(groups, GRID.height)
        merger = task.STRIPS.merger(GRID.crop(Window(top, 0, bottom - top, GRID.width)), folder, of)
        for window in windows:
            if rows.group(window) in groups:
                moved = window._replace(row=window.row - top)
                merger.add(moved, prediction(name, window), np.ones((size, size), dtype=bool))
        merger.finish()
        strips.append(Strip({path.name: path for path in folder.iterdir()}, top, first, stop))
    (tmp_path / "joined").mkdir()
    task.STRIPS.join(strips, GRID, tmp_path / "joined", of, Silent())
    (file,) = task.RAW
    assert (tmp_path / "joined" / file).read_bytes() == (tmp_path / "once" / file).read_bytes()

    strips[1].files[file].write_bytes(b"{}")
    with pytest.raises(DataError, match="predict the scene again"):
        task.STRIPS.join(strips, GRID, tmp_path / "joined", of, Silent())


def test_strips_of_lists_begin_with_groups_of_windows() -> None:
    rows = WindowRows(20, 30, 10)
    assert list(rows.own(30, 90)) == [1, 2] and list(rows.own(60, 70)) == [2]
    with pytest.raises(ValueError, match="a multiple of 30 rows, got 40"):
        rows.own(40, 60)


def test_a_cell_counts_if_its_centre_is_in_the_area(tmp_path: Path) -> None:
    task, of = tasks.get("chip_classification"), settings("chip_classification")
    grid = Grid(70, 50, TRANSFORM, rasterio.crs.CRS.from_user_input(CRS))
    # The first row of cells has pixels in the area, but no centre.
    area = open_aoi([write_aoi(tmp_path / "area.geojson", (6, 0, 34, 50))], grid, None)
    assert area is not None
    chosen = {window for window in task.windows(grid, area, of)}
    for block in (Window(0, 0, 32, 50), Window(32, 0, 38, 50)):
        mask = task.STRIPS.area(area, grid, block, of)
        for cell in sliding(70, 50, 10, 10):
            shared = block.intersection(cell)
            if shared.height:
                counted = mask[shared.slices_in(block)]
                inside = area.mask(shared) if cell in chosen else np.zeros(counted.shape, dtype=bool)
                assert (counted == inside).all()
    assert {window.row for window in chosen} == {10, 20} and area.mask(Window(0, 0, 10, 50)).any()
