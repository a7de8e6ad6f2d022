"""The evaluation of one scene's boxes: matches with the labels, and the data for average precision.

Labels do not count, neither as wanted nor as wrong where something finds them, if their centre lies outside the area of
interest or if less than `MOSTLY` of them lies in the image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict

from rvbuild.geo.area.aoi import Aoi
from rvbuild.geo.classes import NamedClasses
from rvbuild.geo.vector.boxes import Boxes, overlapping
from rvbuild.progress import Progress
from rvbuild.settings.evaluation import BoxEvalSettings
from rvbuild.tasks.detection.average_precision import match
from rvbuild.tasks.detection.boxes import read_detections
from rvbuild.tasks.metrics.tables import without_null

MOSTLY = 0.8
"""Minimum share of a label in the image; Raster Vision drops labels below it."""


class BoxClassCounts(TypedDict):
    """What is counted of a class."""

    found: list[int]
    """True positives, false positives and false negatives of boxes that reach the score threshold, see `confusion`."""
    labels: list[int]
    """By size, as the next one of all boxes: see `rvbuild.tasks.detection.average_precision.Matches`."""
    boxes: list[list[float]]
    """[score, hits, errors] of each."""


class BoxCounts(TypedDict):
    """What is counted in a scene."""

    iou_thresh: float
    score_thresh: float
    classes: dict[str, BoxClassCounts]
    """By class id."""


class BoxReader(Protocol):
    """The interface of labels that the count needs, see `rvbuild.geo.labels.boxes.BoxLabels`."""

    boxes: Boxes
    classes: NDArray[np.int64]
    inside: NDArray[np.float64]


def score(
    predictions: Path,
    labels: BoxReader,
    aoi: Aoi | None,
    classes: NamedClasses,
    null_id: int,
    progress: Progress,
    settings: BoxEvalSettings,
) -> BoxCounts:
    """Compare merged boxes with labels over one scene.

    Parameters
    ----------
    predictions
        A `detections.json`.
    labels
        The labels of the same scene.
    aoi
        The area of interest, or None for the whole scene.
    classes, null_id
        The class list of the settings, and the id of its null class.
    progress
        Receives progress, in classes.
    settings
        The eval settings.
    """
    detections = read_detections(predictions)
    certain = detections.certain()
    idle = labels.inside < MOSTLY
    if aoi is not None:
        x, y = (labels.boxes[:, :2] + labels.boxes[:, 2:]).T / 2
        idle |= ~aoi.contains_points(x, y)
    counts: dict[str, BoxClassCounts] = {}
    progress.start("evaluate", len(classes) - 1, "classes")
    for item in without_null(classes, null_id):
        mine, wanted = detections.classes == item["id"], labels.classes == item["id"]
        matches = match(detections.boxes[mine], detections.scores[mine], labels.boxes[wanted], idle[wanted])
        rows = zip(matches.scores.tolist(), matches.hits.tolist(), matches.errors.tolist(), strict=True)
        counts[str(item["id"])] = {
            "found": confusion(
                detections.boxes[mine & certain], labels.boxes[wanted], idle[wanted], settings["iou_thresh"]
            ),
            "labels": matches.labels.tolist(),
            "boxes": [list(row) for row in rows],
        }
        progress.advance()
    return {"iou_thresh": settings["iou_thresh"], "score_thresh": detections.score_thresh, "classes": counts}


def confusion(boxes: Boxes, labels: Boxes, idle: NDArray[np.bool_], iou_thresh: float) -> list[int]:
    """Return true positives, false positives and false negatives of one class.

    Raster Vision's matching, but within the class, so that no box of another class takes a label away: of the pairs
    whose intersection over union is above the threshold, each label keeps the one with its best box, then each box the
    one with its best label. There is no second chance.

    Parameters
    ----------
    boxes, labels
        (D, 4) and (G, 4).
    idle
        (G,) labels that do not count; boxes that match these are neither right nor wrong.
    iou_thresh
        The threshold.
    """
    label, box, share = overlapping(labels, boxes, iou_thresh)
    label, box, share = _best_of_each(label, box, share)
    box, label, share = _best_of_each(box, label, share)
    free = int(np.count_nonzero(idle[label]))
    right = len(label) - free
    return [right, len(boxes) - free - right, int(np.count_nonzero(~idle)) - right]


def _best_of_each(
    key: NDArray[np.intp], other: NDArray[np.intp], share: Boxes
) -> tuple[NDArray[np.intp], NDArray[np.intp], Boxes]:
    """Return the pair of each key with the largest share, the first of equals."""
    order = np.lexsort((other, -share, key))
    key, other, share = key[order], other[order], share[order]
    first = np.append(True, key[1:] != key[:-1])[: len(key)]
    return key[first], other[first], share[first]
