"""Merging the boxes of overlapping windows into those of a scene.

1. Boxes are clipped to the scene.
2. A box that touches an inner edge of its window, one beyond which the scene goes on, may show a part of an object. It
   gives way to a box of its class that another window shows whole, if that, cut by the same edges, is the same box:
   their intersection over union is above `merge_thresh`. The whole box takes the higher of both scores.
3. Non-maximum suppression over the scene, each class for itself: of boxes whose intersection over union is above
   `merge_thresh` the best stays, see `rvbuild.geo.vector.boxes.nms`.
4. Boxes whose centre lies on no data, or outside the area of interest, are left out.

`join` merges the boxes of several models, each of another part of the scene, such as those of folds. The boxes of each
model are merged by themselves, and count where their centre lies in its part. An object on the boundary of two parts
may be found by both models: it is the merge of the whole scene that leaves one of them. The result has the form of a
raw one, with a single window that is the scene.

Scores decide nothing but the order: a threshold leaves out boxes of the result, and changes none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rvbuild.errors import DataError
from rvbuild.geo.vector.boxes import Boxes, Indices, areas, iou, nms, overlapping_pairs
from rvbuild.geo.windows import Window
from rvbuild.progress import Progress
from rvbuild.tasks.detection.boxes import DECIMALS, RAW_BOXES, Detections, Raw, read_raw, write_raw
from rvbuild.tasks.detection.settings import BoxDeriveSettings

EDGE_PX = 2.0
"""A box that ends this near to an edge of its window touches it: detectors are not exact to the pixel."""

THINNEST_PX = 0.01
"""Boxes whose part in the scene has a shorter side are dropped."""


def merge(raw: Raw, merge_thresh: float, score_thresh: float) -> Detections:
    """Return the boxes of a scene.

    Parameters
    ----------
    raw
        The boxes of its windows.
    merge_thresh
        The largest intersection over union that two boxes of a class may have.
    score_thresh
        Noted in the result, which has the boxes below it too.
    """
    height, width = raw.grid.height, raw.grid.width
    boxes = np.clip(raw.boxes, 0, np.array([width, height] * 2, dtype=np.float64))
    solid = (boxes[:, 2:] - boxes[:, :2] >= THINNEST_PX).all(axis=1)
    # Rounded as written, so that reading the file gives the same boxes.
    boxes, inside = boxes[solid].round(DECIMALS), raw.inside[solid]
    scores, classes = raw.scores[solid].astype(np.float64), raw.classes[solid].astype(np.int64)
    windows = raw.windows[raw.window[solid]]
    kept, scores = _without_cut(boxes, scores, classes, windows, Window(0, 0, height, width), merge_thresh)
    boxes, scores, classes, inside = boxes[kept], scores[kept], classes[kept], inside[kept]
    best = nms(boxes, scores, classes, merge_thresh)
    best = best[inside[best]]
    return Detections(raw.grid, score_thresh, boxes[best].astype(np.float64), classes[best], _shortest(scores[best]))


def join(parts: Sequence[Mapping[str, Path]], settings: BoxDeriveSettings, outputs: Path, progress: Progress) -> None:
    """Write the boxes of all parts as `raw_boxes.safetensors`; see `rvbuild.tasks.protocol.Task.join`."""
    predict = settings["predict"]
    progress.start("join folds", len(parts), "folds")
    models = list[Detections]()
    for part in parts:
        path = part[RAW_BOXES]
        models.append(merge(read_raw(path), predict["merge_thresh"], predict["score_thresh"]))
        grid, other = models[0].grid, models[-1].grid
        if (grid.height, grid.width) != (other.height, other.width):
            raise DataError(f"{path}: the folds of a scene have different sizes; build the folds again")
        progress.advance()
    grid = models[0].grid
    boxes = np.concatenate([each.boxes for each in models])
    write_raw(
        outputs / RAW_BOXES,
        grid,
        [Window(0, 0, grid.height, grid.width)],
        [len(boxes)],
        {
            "boxes": boxes,  # float64: they are in pixels of the scene, to a thousandth
            "scores": np.concatenate([each.scores for each in models]).astype(np.float32),
            "classes": np.concatenate([each.classes for each in models]).astype(np.uint8),
            "inside": np.ones(len(boxes), dtype=np.bool_),
        },
    )


def _shortest(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return scores that are float32 by nature as the shortest decimals that are the same there."""
    return scores.astype(np.float32).astype(str).astype(np.float64) if len(scores) else scores


def _without_cut(
    boxes: Boxes,
    scores: NDArray[np.float64],
    classes: NDArray[np.int64],
    windows: NDArray[np.int64],
    scene: Window,
    thresh: float,
) -> tuple[Indices, NDArray[np.float64]]:
    """Return the boxes that do not give way, and the scores of all, some of them raised."""
    edges = _edges(windows)
    cut = _is_cut(boxes, edges, scene)
    cuts, wholes = np.flatnonzero(cut), np.flatnonzero(~cut)
    gone, scores = np.zeros(len(boxes), dtype=bool), scores.copy()
    for some, other in overlapping_pairs(boxes[cuts], boxes[wholes]):
        part, whole = cuts[some], wholes[other]
        same = (classes[part] == classes[whole]) & (windows[part] != windows[whole]).any(axis=1)
        part, whole = part[same], whole[same]
        # The part of the whole that the window of the part shows.
        seen = np.concatenate(
            [np.maximum(boxes[whole, :2], edges[part, :2]), np.minimum(boxes[whole, 2:], edges[part, 2:])], axis=1
        )
        fit = iou(boxes[part], seen)
        enough = (fit > thresh) & (areas(seen) > 0)
        part, whole, fit = part[enough], whole[enough], fit[enough]
        # Of several wholes, the part is of the one that fits best, the first of equals.
        order = np.lexsort((whole, -fit, part))
        part, whole = part[order], whole[order]
        first = np.flatnonzero(np.append(True, part[1:] != part[:-1])) if len(part) else np.empty(0, dtype=np.intp)
        gone[part[first]] = True
        np.maximum.at(scores, whole[first], scores[part[first]])
    return np.flatnonzero(~gone), scores


def _edges(windows: NDArray[np.int64]) -> Boxes:
    """Return windows (N, 4) of row, column, height, width as boxes."""
    row, col, height, width = windows.T.astype(np.float64)
    return np.stack([col, row, col + width, row + height], axis=1)


def _is_cut(boxes: Boxes, edges: Boxes, scene: Window) -> NDArray[np.bool_]:
    """Return which boxes touch an edge of their window inside the scene, (N,) bool."""
    inner_low = edges[:, :2] > 0
    inner_high = edges[:, 2:] < np.array([scene.width, scene.height])
    low = inner_low & (boxes[:, :2] - edges[:, :2] < EDGE_PX)
    high = inner_high & (edges[:, 2:] - boxes[:, 2:] < EDGE_PX)
    touching: NDArray[np.bool_] = np.logical_or.reduce(low | high, axis=1)
    return touching
