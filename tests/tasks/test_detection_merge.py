from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from affine import Affine
from rasterio.crs import CRS
from torchvision.ops import batched_nms

from rvbuild.errors import DataError, ModelError
from rvbuild.geo.grid import Grid
from rvbuild.geo.windows import Window, sliding
from rvbuild.tasks.detection.boxes import BoxMerger, Detections, read_detections, read_raw, write_detections
from rvbuild.tasks.detection.candidates import Detected
from rvbuild.tasks.detection.merge import merge

CLASSES = [
    {"id": 0, "name": "null", "color": "#000000"},
    {"id": 1, "name": "tree", "color": "#00ff00"},
    {"id": 2, "name": "car", "color": "#ff0000"},
]
GRID = Grid(60, 90, Affine(0.5, 0, 500_000, 0, -0.5, 5_800_000), CRS.from_epsg(32633))
SETTINGS = {"classes": CLASSES, "null_id": 0}
SIZE = 40

Windows = dict[Window, list[tuple[Any, ...]]]
"""The boxes of windows: x0, y0, x1, y1, output, score, in pixels of the scene."""


def raw(folder: Path, detections: Windows, valid: np.ndarray | None = None, grid: Grid = GRID) -> Path:
    merger = BoxMerger(grid, folder, SETTINGS)
    for window, rows in detections.items():
        table = np.array(rows, dtype=np.float64).reshape(-1, 6)
        boxes = table[:, :4] - [window.col, window.row, window.col, window.row]
        prediction = Detected(boxes.astype(np.float32), table[:, 5].astype(np.float32), table[:, 4].astype(np.int64))
        everywhere = np.ones((window.height, window.width), dtype=bool)
        merger.add(window, prediction, everywhere if valid is None else valid)
    merger.finish()
    return folder / "raw_boxes.safetensors"


def merged(folder: Path, detections: Windows, thresh: float = 0.5, **changed: Any) -> list[list[float]]:
    result = merge(read_raw(raw(folder, detections, **changed)), thresh, 0.5)
    return [[*box, int(c), s] for box, c, s in zip(result.boxes.tolist(), result.classes, result.scores, strict=True)]


WHOLE = Window(0, 0, 100, 100)
LEFT, RIGHT = Window(0, 0, SIZE, SIZE), Window(0, 20, SIZE, SIZE)


def test_raw_boxes_come_back(tmp_path: Path) -> None:
    path = raw(
        tmp_path, {LEFT: [(1, 2, 11, 12, 0, 0.25)], RIGHT: [], Window(20, 50, SIZE, SIZE): [(55, 25, 70.5, 40, 1, 0.5)]}
    )
    raw_boxes = read_raw(path)
    assert raw_boxes.grid == GRID
    assert raw_boxes.boxes.tolist() == [[1, 2, 11, 12], [55, 25, 70.5, 40]]
    assert raw_boxes.classes.tolist() == [1, 2] and raw_boxes.scores.tolist() == [0.25, 0.5]
    assert raw_boxes.windows[raw_boxes.window].tolist() == [[0, 0, SIZE, SIZE], [20, 50, SIZE, SIZE]]
    again = tmp_path / "again"
    again.mkdir()
    same = raw(
        again, {LEFT: [(1, 2, 11, 12, 0, 0.25)], RIGHT: [], Window(20, 50, SIZE, SIZE): [(55, 25, 70.5, 40, 1, 0.5)]}
    )
    assert same.read_bytes() == path.read_bytes()
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match="predict the scene again"):
        read_raw(path)


def test_boxes_are_copied_once_however_many_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Raster Vision joins all boxes so far with those of each window: what it copies grows with the windows' square.
    copied = []
    whole = np.concatenate

    def concatenate(arrays: Any, *args: Any, **options: Any) -> np.ndarray:
        joined = whole(arrays, *args, **options)
        copied.append(len(joined))
        return joined

    monkeypatch.setattr(np, "concatenate", concatenate)
    windows = {
        Window(row, col, SIZE, SIZE): [(col, row, col + 9, row + 9, 0, 0.5)] for row in range(20) for col in range(20)
    }
    path = raw(tmp_path, windows)
    assert sum(copied) == 4 * len(windows)  # boxes, scores, classes, inside
    assert len(read_raw(path).boxes) == len(windows)


def test_no_windows_and_no_boxes(tmp_path: Path) -> None:
    assert merged(tmp_path, {}) == []
    assert merged(tmp_path, {LEFT: [], RIGHT: []}) == []


def test_overlapping_boxes_of_a_class_are_one(tmp_path: Path) -> None:
    # Raster Vision lets a car suppress the truck that it overlaps, whatever their classes.
    detections = {WHOLE: [(10, 10, 20, 20, 0, 0.8), (10, 10, 20, 21, 0, 0.9), (10, 10, 20, 20, 1, 0.3)]}
    assert merged(tmp_path, detections) == [[10, 10, 20, 21, 1, 0.9], [10, 10, 20, 20, 2, 0.3]]


def test_boxes_end_with_the_scene(tmp_path: Path) -> None:
    detections = {
        WHOLE: [(-3, 50, 20, 70, 0, 0.9), (85, 10, 99, 20, 0, 0.8), (91, 10, 99, 20, 0, 0.7), (5, -9, 9, 0, 0, 0.6)]
    }
    assert merged(tmp_path, detections) == [[0, 50, 20, 60, 1, 0.9], [85, 10, 90, 20, 1, 0.8]]


def test_a_cut_box_gives_way_to_the_whole_one_of_a_neighbour(tmp_path: Path) -> None:
    # The object reaches from column 30 to 55: the first window shows 10 of its 25 columns, too few for suppression.
    part, whole = (30, 5, 40, 25, 0, 0.95), (30, 5, 55, 25, 0, 0.6)
    assert merged(tmp_path, {LEFT: [part], RIGHT: [whole]}) == [[30, 5, 55, 25, 1, 0.95]]
    # By a pixel or so of uncertainty, too.
    near = (30.5, 5.4, 38.8, 25.3, 0, 0.55)
    assert merged(tmp_path, {LEFT: [near], RIGHT: [whole]}) == [[30, 5, 55, 25, 1, 0.6]]


@pytest.mark.parametrize(
    ("part", "whole"),
    [
        ((30, 5, 40, 25, 1, 0.9), (30, 5, 55, 25, 0, 0.6)),  # another class
        ((30, 5, 40, 25, 0, 0.9), (22, 5, 55, 35, 0, 0.6)),  # its window would have shown more of that
        ((30, 5, 40, 25, 0, 0.9), (38, 5, 55, 25, 0, 0.6)),  # its neighbour
        ((30, 5, 37, 25, 0, 0.9), (30, 5, 55, 25, 0, 0.6)),  # whole, though smaller
        ((30, 5, 40, 25, 0, 0.9), (30, 5, 60, 25, 0, 0.6)),  # both cut
    ],
)
def test_what_does_not_give_way(tmp_path: Path, part: tuple[Any, ...], whole: tuple[Any, ...]) -> None:
    rows = merged(tmp_path, {LEFT: [part], RIGHT: [whole]})
    assert [row[5] for row in rows] == [0.9, 0.6]


def test_the_edge_of_the_scene_cuts_nothing(tmp_path: Path) -> None:
    edge = Grid(SIZE, SIZE, Affine.identity(), None)
    rows = merged(tmp_path, {LEFT: [(30, 5, 40, 25, 0, 0.9)]}, grid=edge)
    assert rows == [[30, 5, 40, 25, 1, 0.9]]


def test_boxes_centred_outside_what_counts_merge_and_are_left_out(tmp_path: Path) -> None:
    valid = np.ones((SIZE, SIZE), dtype=bool)
    valid[:, 20:] = False
    window = Window(0, 0, SIZE, SIZE)
    rows = [(2, 2, 12, 12, 0, 0.6), (19, 2, 25, 9, 0, 0.9), (15, 2, 24.5, 12, 0, 0.7), (14.9, 2, 24, 12, 0, 0.65)]
    kept = merged(tmp_path, {window: rows}, valid=valid)
    assert [row[5] for row in kept] == [0.7, 0.6]


def test_scores_do_not_change_what_is_above_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    windows: Windows = {}
    for window in sliding(60, 90, SIZE, 20):
        corners = rng.uniform(0, 30, (25, 2)) + np.array([window.col, window.row])
        boxes = np.concatenate([corners, corners + rng.uniform(4, 12, (25, 2))], axis=1)
        high = [window.col_stop, window.row_stop]
        boxes[:, 2:] = np.minimum(boxes[:, 2:], high)
        windows[window] = [
            (*box, int(rng.integers(0, 2)), s) for box, s in zip(boxes, rng.uniform(0.05, 1, 25), strict=True)
        ]
    rows = merged(tmp_path, windows)
    assert rows == sorted(rows, key=lambda row: -row[5])
    merged_boxes = merge(read_raw(tmp_path / "raw_boxes.safetensors"), 0.5, 0.5)
    kept = batched_nms(
        torch.from_numpy(merged_boxes.boxes),
        torch.from_numpy(merged_boxes.scores),
        torch.from_numpy(merged_boxes.classes),
        0.5,
    )
    assert len(kept) == len(rows) > 20


def test_detections_come_back(tmp_path: Path) -> None:
    written = Detections(GRID, 0.4, np.array([[1, 2, 3.125, 4]]), np.array([2]), np.array([0.3]))
    write_detections(tmp_path / "d.json", written)
    loaded = read_detections(tmp_path / "d.json")
    assert loaded.grid == GRID and loaded.score_thresh == 0.4 and loaded.certain().tolist() == [False]
    assert (
        loaded.boxes.tolist() == [[1, 2, 3.125, 4]]
        and loaded.classes.tolist() == [2]
        and loaded.scores.tolist() == [0.3]
    )
    none = Detections(GRID, 0.4, np.empty((0, 4)), np.empty(0, dtype=np.int64), np.empty(0))
    write_detections(tmp_path / "d.json", none)
    assert read_detections(tmp_path / "d.json").boxes.shape == (0, 4)
    (tmp_path / "d.json").write_text('{"boxes": [[1]]}')
    with pytest.raises(DataError, match="predict the scene again"):
        read_detections(tmp_path / "d.json")


def test_models_that_give_nonsense(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="row 0, column 20"):
        raw(tmp_path, {RIGHT: [(1, 2, np.nan, 4, 0, 0.5)]})
    with pytest.raises(ModelError, match="labels outside of its 2 classes"):
        raw(tmp_path, {LEFT: [(1, 2, 3, 4, 2, 0.5)]})
