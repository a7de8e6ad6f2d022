"""The raw results of a scene by several models, each of another part, as one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from rvbuild.errors import DataError
from rvbuild.geo.grid import Grid
from rvbuild.geo.windows import sliding
from rvbuild.progress import Silent
from rvbuild.tasks.classification import task as cells_task
from rvbuild.tasks.classification.cells import merger, read_cells
from rvbuild.tasks.detection import task as boxes_task
from rvbuild.tasks.detection.candidates import Detected

CLASSES = [
    {"id": 0, "name": "null", "color": "#000000"},
    {"id": 1, "name": "tree", "color": "#00ff00"},
    {"id": 2, "name": "car", "color": "#ff0000"},
]
GRID = Grid(40, 100, Affine(0.5, 0, 500_000, 0, -0.5, 5_800_000), CRS.from_epsg(32633))
CELL = 12
SIDE = 40


def predicted_cells(folder: Path, scores: np.ndarray, chosen: np.ndarray, grid: Grid = GRID) -> dict[str, Path]:
    """Write the cells that are chosen."""
    folder.mkdir()
    merged = merger(grid, folder, {"classes": CLASSES, "null_id": 0, "predict": {"cell_px": CELL}})
    for number, window in enumerate(sliding(grid.height, grid.width, CELL, CELL)):
        if chosen[number]:
            merged.add(window, scores[number], np.ones((CELL, CELL), dtype=bool))
    merged.finish()
    return {"cells.json": folder / "cells.json"}


def test_cells_of_all_folds_are_the_cells_of_the_scene(tmp_path: Path) -> None:
    count = len(sliding(GRID.height, GRID.width, CELL, CELL))
    scores = np.random.default_rng(0).uniform(size=(count, 2)).astype(np.float32)
    fold = np.arange(count) % 3
    parts = [predicted_cells(tmp_path / str(n), scores, fold == n) for n in (2, 0)]  # fold 1 had no place here
    cells_task.join(parts, {}, tmp_path, Silent())
    expected = predicted_cells(tmp_path / "all", scores, fold != 1)["cells.json"]
    assert (tmp_path / "cells.json").read_bytes() == expected.read_bytes()
    assert not read_cells(tmp_path / "cells.json").predicted.all()


def test_a_cell_of_two_folds_and_other_cells_are_errors(tmp_path: Path) -> None:
    scores, chosen = np.ones((100, 2), dtype=np.float32), np.arange(100) < 2
    parts = [predicted_cells(tmp_path / name, scores, chosen) for name in ("x", "y")]
    with pytest.raises(DataError, match="a cell is predicted in two folds"):
        cells_task.join(parts, {}, tmp_path, Silent())
    wide = predicted_cells(tmp_path / "z", scores, chosen, Grid(40, 200, GRID.transform, GRID.crs))
    with pytest.raises(DataError, match="different cells"):
        cells_task.join([parts[0], wide], {}, tmp_path, Silent())


Rows = list[tuple[Any, ...]]
"""x0, y0, x1, y1, output, score, in pixels of the scene."""


def predicted_boxes(folder: Path, rows: Rows, inside: np.ndarray, grid: Grid = GRID) -> dict[str, Path]:
    """Write the boxes as a detector would find them in overlapping windows."""
    folder.mkdir(parents=True)
    merged = boxes_task.merger(grid, folder, {"classes": CLASSES, "null_id": 0, "predict": {}})
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    for window in sliding(grid.height, grid.width, SIDE, SIDE // 2):
        edges = np.array([window.col, window.row, window.col_stop, window.row_stop])
        low, high = np.maximum(table[:, :2], edges[:2]), np.minimum(table[:, 2:4], edges[2:])
        seen = (high - low > 1).all(axis=1)
        boxes = np.concatenate([low, high], axis=1)[seen] - np.tile(edges[:2], 2)
        prediction = Detected(
            boxes.astype(np.float32), table[seen, 5].astype(np.float32), table[seen, 4].astype(np.int64)
        )
        valid = np.zeros((SIDE, SIDE), dtype=bool)
        part = inside[window.row : window.row_stop, window.col : window.col_stop]
        valid[: part.shape[0], : part.shape[1]] = part
        if valid.any():
            merged.add(window, prediction, valid)
    merged.finish()
    return {"raw_boxes.safetensors": folder / "raw_boxes.safetensors"}


def detections(folder: Path, raw: Path) -> list[list[float]]:
    """Return the merged boxes of a raw result."""
    outputs = folder / "derived"
    outputs.mkdir(exist_ok=True)
    boxes_task.derive({"raw_boxes.safetensors": raw}, SETTINGS, outputs, Silent())
    found: list[list[float]] = json.loads((outputs / "detections.json").read_text())["boxes"]
    return found


SETTINGS: Any = {
    "classes": CLASSES,
    "null_id": 0,
    "predict": {"boxes": "geojson", "score_thresh": 0.1, "merge_thresh": 0.5},
}
LEFT = np.zeros((GRID.height, GRID.width), dtype=bool)
LEFT[:, :50] = True


def joined(folder: Path, left: Rows, right: Rows) -> list[list[float]]:
    parts = [predicted_boxes(folder / "left", left, LEFT), predicted_boxes(folder / "right", right, ~LEFT)]
    boxes_task.join(parts, SETTINGS, folder, Silent())
    return detections(folder, folder / "raw_boxes.safetensors")


def test_a_box_is_of_the_fold_of_its_centre(tmp_path: Path) -> None:
    left = [(5, 5, 15, 15, 0, 0.9), (60, 5, 70, 15, 0, 0.8)]  # the second lies where this model has learned
    right = [(6, 5, 16, 15, 0, 0.99), (80, 20, 91, 32, 1, 0.7)]
    assert joined(tmp_path, left, right) == [[5, 5, 15, 15, 1, 0.9], [80, 20, 91, 32, 2, 0.7]]


def test_an_object_on_the_boundary_is_found_once(tmp_path: Path) -> None:
    """Each model sees its centre on its own side; of two objects that lie there, both stay."""
    left, right = [(44, 5, 55, 15, 0, 0.6)], [(45, 5, 56, 15, 0, 0.9)]
    assert joined(tmp_path / "one", left, right) == [[45, 5, 56, 15, 1, 0.9]]
    right = [(45, 5, 56, 15, 1, 0.9)]  # of another class
    assert len(joined(tmp_path / "two", left, right)) == 2


def test_boxes_of_another_fold_raise_no_score_and_suppress_nothing(tmp_path: Path) -> None:
    """The model of the right has learned the left, so what it says there does not count."""
    left = [(40, 5, 49, 15, 0, 0.3)]
    assert joined(tmp_path, left, [(40, 5, 49, 15, 0, 1.0)]) == [[40, 5, 49, 15, 1, 0.3]]


def test_scenes_of_other_sizes_are_an_error(tmp_path: Path) -> None:
    wide = predicted_boxes(tmp_path / "x", [], np.ones((40, 200), bool), Grid(40, 200, GRID.transform, GRID.crs))
    with pytest.raises(DataError, match="different sizes"):
        boxes_task.join([predicted_boxes(tmp_path / "y", [], LEFT), wide], SETTINGS, tmp_path, Silent())


@st.composite
def scattered(draw: st.DrawFn) -> Rows:
    """Return boxes that lie apart, with sides and places of fractions of a pixel."""
    rows: Rows = []
    for number in range(draw(st.integers(0, 8))):
        x0, y0 = 12 * number + draw(st.integers(0, 16)) / 8, draw(st.integers(0, 200)) / 8
        width, height = draw(st.integers(24, 72)) / 8, draw(st.integers(24, 72)) / 8
        rows.append((x0, y0, x0 + width, y0 + height, draw(st.integers(0, 1)), draw(st.integers(1, 16)) / 16))
    return rows


@settings(max_examples=40)
@given(rows=scattered())
def test_one_model_in_two_parts_finds_what_it_finds_in_one(
    tmp_path_factory: pytest.TempPathFactory, rows: Rows
) -> None:
    folder = tmp_path_factory.mktemp("boxes")
    whole = predicted_boxes(folder / "whole", rows, np.ones_like(LEFT))
    expected = detections(folder, whole["raw_boxes.safetensors"])
    assert sorted(joined(folder, rows, rows)) == sorted(expected)
    (twice := folder / "twice").mkdir()
    boxes_task.join([{"raw_boxes.safetensors": folder / "raw_boxes.safetensors"}], SETTINGS, twice, Silent())
    assert detections(twice, twice / "raw_boxes.safetensors") == detections(folder, folder / "raw_boxes.safetensors")
