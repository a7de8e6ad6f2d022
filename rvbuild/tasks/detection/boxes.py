"""The boxes of a scene as files: the raw ones of each window, and the merged ones.

`raw_boxes.safetensors` holds the windows in row-major order, `windows` (W, 4) int64, and of the boxes of all of them
`boxes` (N, 4) float32 x0, y0, x1, y1 in pixels of their window, `scores` (N,) float32, `classes` (N,) uint8 class ids,
`inside` (N,) bool, whether the centre lies on a pixel with data in the area of interest, and `offsets` (W + 1,) int64,
where those of each window begin. The scene's grid is in the metadata.
Boxes of several models (`merge.join`) are float64.

`detections.json` is `{"grid", "score_thresh", "boxes": [[x0, y0, x1, y1, class id, score], …]}`: the merged boxes in
pixels of the scene, to a thousandth, by falling score. Those below the threshold are there too: an average precision
needs them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from rvbuild.errors import DataError, ModelError
from rvbuild.geo.grid import Grid
from rvbuild.geo.vector.boxes import Boxes
from rvbuild.geo.windows import Window
from rvbuild.tasks.detection.settings import BoxInferSettings
from rvbuild.tasks.metrics.tables import without_null

RAW_BOXES = "raw_boxes.safetensors"
DETECTIONS = "detections.json"

DECIMALS = 3
"""Precision of coordinates in pixels: far below that of a detector."""


class Raw(NamedTuple):
    """The boxes of all windows of a scene, see the module."""

    grid: Grid
    windows: NDArray[np.int64]
    boxes: Boxes
    """(N, 4) float64 in pixels of the scene; not clipped to it."""
    scores: NDArray[np.float32]
    classes: NDArray[np.uint8]
    inside: NDArray[np.bool_]
    window: NDArray[np.int64]
    """(N,) the number of the window of each box."""


@dataclass(frozen=True)
class Detections:
    """The merged boxes of a scene, by falling score."""

    grid: Grid
    score_thresh: float
    boxes: NDArray[np.float64]
    """(N, 4) in pixels of the scene."""
    classes: NDArray[np.int64]
    scores: NDArray[np.float64]

    def certain(self) -> NDArray[np.bool_]:
        """Return which boxes reach the threshold, (N,) bool."""
        return self.scores >= self.score_thresh


class _Boxes(Protocol):
    """The detections in one window."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    outputs: NDArray[np.int64]


_COLUMNS = ("boxes", "scores", "classes", "inside")


class BoxMerger:
    """Gathers the boxes of windows and writes them at the end. Memory: 26 bytes for each."""

    def __init__(self, grid: Grid, outputs: Path, settings: BoxInferSettings) -> None:
        self._grid, self._path = grid, outputs / RAW_BOXES
        trained = without_null(settings["classes"], settings["null_id"])
        self._ids = np.array([item["id"] for item in trained], dtype=np.uint8)
        self._windows: list[Window] = []
        self._parts: list[tuple[NDArray[Any], ...]] = []

    def add(self, window: Window, prediction: _Boxes, valid: NDArray[np.bool_]) -> None:
        """Add the boxes of one window; see `rvbuild.tasks.protocol.Merger`."""
        boxes, scores, outputs = prediction.boxes, prediction.scores, prediction.outputs
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise ModelError(
                f"the model gave values that are not finite for the window at row {window.row}, column {window.col}; "
                "expected boxes with scores. Its weights have probably diverged: train with a lower lr"
            )
        if ((outputs < 0) | (outputs >= len(self._ids))).any():
            raise ModelError(
                f"the model returned labels outside of its {len(self._ids)} classes: expected the first label "
                f"and the {len(self._ids) - 1} after it, found one {int(outputs.min())} or {int(outputs.max())} away"
            )
        columns = np.clip((boxes[:, 0] + boxes[:, 2]) / 2, 0, window.width - 1).astype(np.intp)
        rows = np.clip((boxes[:, 1] + boxes[:, 3]) / 2, 0, window.height - 1).astype(np.intp)
        self._windows.append(window)
        self._parts.append(
            (boxes.astype(np.float32), scores.astype(np.float32), self._ids[outputs], valid[rows, columns])
        )

    def finish(self) -> None:
        """Write all boxes."""
        empty = (np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.uint8), np.empty(0, bool))
        columns = [np.concatenate(arrays) for arrays in zip(empty, *self._parts, strict=True)]
        tensors = dict(zip(_COLUMNS, columns, strict=True))
        write_raw(self._path, self._grid, self._windows, [len(scores) for _, scores, *_ in self._parts], tensors)


def write_raw(
    path: Path, grid: Grid, windows: Sequence[Window], counts: Sequence[int], tensors: Mapping[str, NDArray[Any]]
) -> None:
    """Write a `raw_boxes.safetensors`.

    Parameters
    ----------
    path, grid
        The file, and the grid of the scene.
    windows, counts
        The windows, and the number of boxes of each.
    tensors
        `boxes`, `scores`, `classes` and `inside` of all boxes, see the module.
    """
    placed = {
        "windows": np.array(windows, dtype=np.int64).reshape(-1, 4),
        "offsets": np.cumsum([0, *counts], dtype=np.int64),
    }
    save_file({**tensors, **placed}, path, metadata={"grid": json.dumps(grid.as_json())})


def join_raw(parts: Sequence[tuple[Path, int]], grid: Grid, path: Path) -> None:
    """Write the boxes of several files of windows as one.

    Parameters
    ----------
    parts
        Files of `BoxMerger`, in the order of their windows, each with the row of the scene that is its first one.
    grid
        Of the scene.
    path
        The file to write.

    Raises
    ------
    DataError
        A file was not written by `BoxMerger`.
    """
    windows, counts, columns = list[Window](), list[int](), list[dict[str, NDArray[Any]]]()
    for part, top in parts:
        _, tensors = _read(part)
        windows += [Window(row + top, *rest) for row, *rest in tensors.pop("windows").tolist()]
        counts += np.diff(tensors.pop("offsets")).tolist()
        columns.append(tensors)
    write_raw(path, grid, windows, counts, {name: np.concatenate([c[name] for c in columns]) for name in _COLUMNS})


def read_raw(path: Path) -> Raw:
    """Read a `raw_boxes.safetensors`.

    Raises
    ------
    DataError
        The file was not written by `BoxMerger`.
    """
    grid, tensors = _read(path)
    counts = np.diff(tensors["offsets"])
    window = np.repeat(np.arange(len(counts)), counts)
    origin = tensors["windows"][:, [1, 0, 1, 0]][window]
    return Raw(
        grid=grid,
        windows=tensors["windows"],
        boxes=tensors["boxes"].astype(np.float64) + origin,
        scores=tensors["scores"],
        classes=tensors["classes"],
        inside=tensors["inside"].astype(bool),
        window=window,
    )


def _read(path: Path) -> tuple[Grid, dict[str, NDArray[Any]]]:
    """Return the grid and the tensors of a `raw_boxes.safetensors`."""
    try:
        with safe_open(path, framework="np") as file:
            grid = Grid.from_json(json.loads(file.metadata()["grid"]))
            tensors = {name: file.get_tensor(name) for name in ("windows", "offsets", *_COLUMNS)}
        boxes, count = tensors["boxes"], int(tensors["offsets"][-1])
        if boxes.shape != (count, 4) or tensors["windows"].shape != (len(tensors["offsets"]) - 1, 4):
            raise ValueError(f"boxes of shape {boxes.shape} for {count} in windows")
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"{path}: cannot be read as boxes of windows ({error}); predict the scene again") from error
    return grid, tensors


def write_detections(path: Path, detections: Detections) -> None:
    """Write `detections.json`, a box a line."""
    head = json.dumps({"grid": detections.grid.as_json(), "score_thresh": detections.score_thresh})
    rows = zip(detections.boxes.tolist(), detections.classes.tolist(), detections.scores.tolist(), strict=True)
    lines = [json.dumps([*box, class_id, score]) for box, class_id, score in rows]
    path.write_text(head[:-1] + ', "boxes": [\n' + ",\n".join(lines) + "\n]}\n", encoding="utf-8")


def read_detections(path: Path) -> Detections:
    """Read a `detections.json`.

    Raises
    ------
    DataError
        The file was not written by `write_detections`.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = np.array(content["boxes"], dtype=np.float64).reshape(-1, 6)
        return Detections(
            grid=Grid.from_json(content["grid"]),
            score_thresh=float(content["score_thresh"]),
            boxes=rows[:, :4],
            classes=rows[:, 4].astype(np.int64),
            scores=rows[:, 5],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read as merged boxes ({error}); predict the scene again") from error
