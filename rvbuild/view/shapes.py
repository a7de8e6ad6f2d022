"""Shapes of a scene as JSON data: boxes, cells, chips and the outline of an area, in pixels of the scene."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from rvbuild.errors import LabelValueError, UsageError
from rvbuild.geo.area.aoi import Aoi
from rvbuild.geo.vector.boxes import overlapping
from rvbuild.geo.windows import sliding
from rvbuild.learn.chips.index import read_index
from rvbuild.learn.chips.shards import open_shard
from rvbuild.rules import common
from rvbuild.settings.chip import ChipSettings
from rvbuild.tasks.classification.cells import class_ids, read_cells
from rvbuild.tasks.detection.boxes import read_detections
from rvbuild.tasks.detection.score import MOSTLY
from rvbuild.view.readers import Memo
from rvbuild.view.scenes import Shown, ViewedScene

MOST = 200_000
"""Shapes of a layer that are sent; of predictions, those with the highest scores."""

Rows = list[list[Any]]


def shapes(scene: ViewedScene, layer: str, memo: Memo) -> dict[str, Any]:
    """Return the shapes of a layer of a scene.

    Returns
    -------
    dict
        `rows`, one for each shape, with `columns` that say what is in them:

        * `x0`, `y0`, `x1`, `y1` in pixels; `class`, a class id; `score`, from 0 to 1.
        * `hit` of a predicted box: 1 if it finds a label that counts, 0 if it finds none, -1 if what it finds does not
          count. Of a label: the score of the box that finds it, null if none does, -1 if the label does not count.
        * `truth` of a predicted cell: the class id of its label; null without one that counts.

        `left_out`, how many shapes were too many. For `area`, `rings`: polygons as lists of rings of points.

    Raises
    ------
    UsageError
        There is no such layer.
    """
    kind = scene.task.COUNTED
    makers = {("boxes", "labels"): _boxes, ("boxes", "prediction"): _boxes, ("boxes", "errors"): _boxes}
    makers |= {("cells", "labels"): _cells, ("cells", "prediction"): _cells, ("cells", "errors"): _cells}
    with scene.readers.turn:
        if layer == "chips":
            return _chips(scene)
        if layer == "area":
            return _outline(scene)
        if (kind, layer) not in makers:
            raise UsageError(f"there are no shapes of {layer!r}")
        shapes = makers[kind, layer](scene, memo)
    rows = shapes["labels" if layer == "labels" else "prediction"]
    return {"columns": shapes["columns"][layer != "labels"], "rows": rows[:MOST], "left_out": max(0, len(rows) - MOST)}


def _key(scene: ViewedScene, what: str) -> object:
    versions = (scene.labels_version, scene.version_of(scene.prediction), scene.area_version, scene.image_version)
    return (what, scene.scene.id, versions, scene.project.eval.stage_settings().get("iou_thresh"))


def boxes_of(scene: ViewedScene, memo: Memo) -> dict[str, Any]:
    """Return the boxes of labels and predictions, and which of them fit; see `shapes`."""
    return memo.get(_key(scene, "boxes"), lambda: _match_boxes(scene))


def cells_of(scene: ViewedScene, memo: Memo, of: str = "prediction") -> dict[str, Any]:
    """Return the cells of labels and predictions, or of the draft in place of these; see `shapes`."""
    shown = scene.evaluated(of)
    return memo.get((_key(scene, "cells"), scene.version_of(shown)), lambda: _pair_cells(scene, shown))


def _boxes(scene: ViewedScene, memo: Memo) -> dict[str, Any]:
    return boxes_of(scene, memo)


def _cells(scene: ViewedScene, memo: Memo) -> dict[str, Any]:
    return cells_of(scene, memo)


def _match_boxes(scene: ViewedScene) -> dict[str, Any]:
    labels, ids = np.empty((0, 4)), np.empty(0, dtype=np.int64)
    idle = np.empty(0, dtype=bool)
    if scene.labels_version is not None:
        with scene.labels() as source, scene.area() as area:
            labels, ids = source.boxes, source.classes  # type: ignore[attr-defined]  # it is of detection
            idle = source.inside < MOSTLY  # type: ignore[attr-defined]
            if area is not None:
                idle = idle | ~_centres_in(area, labels)
    boxes, classes, scores = np.empty((0, 4)), np.empty(0, dtype=np.int64), np.empty(0)
    if scene.prediction is not None:
        detections = read_detections(scene.prediction.path)
        boxes, classes, scores = detections.boxes, detections.classes, detections.scores
    hits, by = np.zeros(len(boxes), dtype=np.int64), np.full(len(labels), np.nan)
    for class_id in np.unique(classes).tolist():
        mine, wanted = np.flatnonzero(classes == class_id), np.flatnonzero(ids == class_id)
        iou_thresh = scene.project.eval.iou_thresh
        for box, label in _pairs(boxes[mine], scores[mine], labels[wanted], idle[wanted], iou_thresh):
            hits[mine[box]] = -1 if idle[wanted[label]] else 1
            by[wanted[label]] = scores[mine[box]]
    order = np.argsort(-scores, kind="stable")
    predicted = [
        [*box, int(class_id), score, int(hit)]
        for box, class_id, score, hit in zip(
            boxes[order].round(2).tolist(), classes[order].tolist(), scores[order].tolist(), hits[order], strict=True
        )
    ]
    known = [
        [*box, int(class_id), -1 if free else None if np.isnan(score) else float(score)]
        for box, class_id, free, score in zip(labels.round(2).tolist(), ids.tolist(), idle, by, strict=True)
    ]
    place = ["x0", "y0", "x1", "y1", "class"]
    return {"columns": ([*place, "hit"], [*place, "score", "hit"]), "labels": known, "prediction": predicted}


def _pairs(
    boxes: NDArray[Any], scores: NDArray[Any], labels: NDArray[Any], idle: NDArray[np.bool_], iou_thresh: float
) -> list[tuple[int, int]]:
    """Return which box of one class finds which label: by falling score, each takes the free one that it shares most
    with, first of those that count.
    """
    mine, theirs, shares = overlapping(boxes.astype(np.float64), labels.astype(np.float64), iou_thresh)
    order = np.lexsort((theirs, -shares, idle[theirs], mine, -scores[mine]))
    pairs, taken = [], set[int]()
    rows = zip(mine[order].tolist(), theirs[order].tolist(), strict=True)
    for box, candidates in itertools.groupby(rows, key=lambda pair: pair[0]):
        label = next((label for _, label in candidates if label not in taken), None)
        if label is not None:
            taken.add(label)
            pairs.append((box, label))
    return pairs


def _centres_in(area: Aoi, boxes: NDArray[Any]) -> NDArray[np.bool_]:
    x, y = (boxes[:, :2] + boxes[:, 2:]).T / 2
    return area.contains_points(x, y)


def _pair_cells(scene: ViewedScene, shown: Shown | None) -> dict[str, Any]:
    labelled: dict[tuple[int, ...], int] = {}
    if scene.labels_version is not None:
        labelled = _labelled_cells(scene)
    predicted: Rows = []
    if shown is not None:
        cells = read_cells(shown.path)
        ids = class_ids(cells)
        with scene.area() as area:
            truths = _truths(scene, cells, area)
        for row, column in np.argwhere(cells.predicted).tolist():
            w = cells.window(row, column).clip(cells.grid.height, cells.grid.width)
            score = float(np.nanmax(cells.scores[row, column]))
            predicted.append(
                [w.col, w.row, w.col_stop, w.row_stop, int(ids[row, column]), score, truths.get((row, column))]
            )
    labels = [[*place, class_id] for place, class_id in labelled.items()]
    place_of = ["x0", "y0", "x1", "y1", "class"]
    return {"columns": (place_of, [*place_of, "score", "truth"]), "labels": labels, "prediction": predicted}


def _labelled_cells(scene: ViewedScene) -> dict[tuple[int, ...], int]:
    settings, grid = scene.label_settings, scene.grid
    files = [common.resolve(scene.project, path) for path in scene.scene.labels.files] if scene.scene.labels else []
    cell_px = settings["cells"]["cell_px"] if "cells" in settings else scene.project.chip_px
    chip: ChipSettings = {**scene.project.chip.stage_settings(), "stride_px": cell_px}
    windows = scene.task.chip_windows(files, settings, grid, scene.classes, chip)
    if windows is None:
        windows = sliding(grid.height, grid.width, cell_px, cell_px)
    cells: dict[tuple[int, ...], int] = {}
    with scene.labels() as source:
        for window in windows:
            try:
                class_id = source.cells.classify(window)  # type: ignore[attr-defined]  # it is of classification
            except LabelValueError:
                continue
            if class_id != scene.null_id:
                part = window.clip(grid.height, grid.width)
                cells[part.col, part.row, part.col_stop, part.row_stop] = int(class_id)
    return cells


def _truths(scene: ViewedScene, cells: Any, area: Aoi | None) -> dict[tuple[int, int], int]:
    """Return the class id of the label of each cell of the grid that counts."""
    if scene.labels_version is None:
        return {}
    truths = {}
    with scene.labels() as source:
        for row, column in np.argwhere(cells.predicted).tolist():
            window = cells.window(row, column)
            if area is None or area.contains_centre(window):
                class_id = source.cells.cell(window)  # type: ignore[attr-defined]
                if class_id != scene.null_id:
                    truths[row, column] = int(class_id)
    return truths


def _chips(scene: ViewedScene) -> dict[str, Any]:
    shown = scene.chips()
    if shown is None:
        raise UsageError("there are no chips: build the project")
    index, rows = read_index(shown.path), []
    for shard in index["shards"]:
        windows = open_shard(shown.path.parent / shard["labels"]).get("windows")
        for row, col, height, width in [] if windows is None else windows.tolist():
            rows.append([col, row, col + width, row + height])
    return {"columns": ["x0", "y0", "x1", "y1"], "rows": rows[:MOST], "left_out": max(0, len(rows) - MOST)}


def _outline(scene: ViewedScene) -> dict[str, Any]:
    with scene.area() as area:
        outline = None if area is None else area.outline()
    if outline is None:
        return {"columns": [], "rows": [], "left_out": 0, "rings": []}
    parts = [part for part in shapely.get_parts(outline) if part.geom_type == "Polygon"]
    rings = [[np.asarray(ring.coords).round(2).tolist() for ring in (part.exterior, *part.interiors)] for part in parts]
    return {"columns": [], "rows": [], "left_out": 0, "rings": rings}
