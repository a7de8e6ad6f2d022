"""The evaluation of one scene's boxes: matches with the labels, and the data for average precision.

Labels do not count, neither as wanted nor as wrong where something finds them, if their centre lies outside the area of
interest or if less than `MOSTLY` of them lies in the image.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict

from rvbuild.geo.area.aoi import Aoi
from rvbuild.geo.classes import NamedClasses
from rvbuild.geo.grid import Grid
from rvbuild.geo.vector.boxes import Boxes, overlapping
from rvbuild.geo.windows import Window
from rvbuild.progress import Progress
from rvbuild.settings.evaluation import BoxEvalSettings
from rvbuild.tasks.detection.boxes import read_detections
from rvbuild.tasks.metrics.average_precision import match
from rvbuild.tasks.metrics.places import SIDE_PX, Pair, WorstPlaces
from rvbuild.tasks.metrics.score_histogram import ScoreHistogram, score_histogram
from rvbuild.tasks.metrics.tables import without_null

MOSTLY = 0.8
"""Minimum share of a label in the image; Raster Vision drops labels below it."""


class BoxClassCounts(TypedDict):
    """What is counted of a class."""

    found: list[int]
    """True positives, false positives and false negatives of boxes that reach the score threshold, see `compare`."""
    labels: list[int]
    """By size, as the next one of all boxes: see `rvbuild.tasks.metrics.average_precision.Matches`."""
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
    worst: WorstPlaces,
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
    worst
        Receives the squares with wrong boxes and missed labels.
    """
    detections = read_detections(predictions)
    certain = detections.certain()
    idle = ignored(labels, aoi)
    counts: dict[str, BoxClassCounts] = {}
    errors: dict[Window, Counter[Pair]] = defaultdict(Counter)
    progress.start("evaluate", len(classes) - 1, "classes")
    for item in without_null(classes, null_id):
        mine, wanted = detections.classes == item["id"], labels.classes == item["id"]
        matches = match(detections.boxes[mine], detections.scores[mine], labels.boxes[wanted], idle[wanted])
        rows = zip(matches.scores.tolist(), matches.hits.tolist(), matches.errors.tolist(), strict=True)
        boxes, truth = detections.boxes[mine & certain], labels.boxes[wanted]
        right, wrong, missed = compare(boxes, truth, idle[wanted], settings["iou_thresh"])
        for square in _squares(boxes[wrong], detections.grid):
            errors[square][null_id, item["id"]] += 1
        for square in _squares(truth[missed], detections.grid):
            errors[square][item["id"], null_id] += 1
        counts[str(item["id"])] = {
            "found": [int(np.count_nonzero(mask)) for mask in (right, wrong, missed)],
            "labels": matches.labels.tolist(),
            "boxes": [list(row) for row in rows],
        }
        progress.advance()
    for square, of_square in errors.items():
        worst.add(square, of_square)
    return {"iou_thresh": settings["iou_thresh"], "score_thresh": detections.score_thresh, "classes": counts}


def ignored(labels: BoxReader, aoi: Aoi | None) -> NDArray[np.bool_]:
    """Return which labels do not count, (G,): those outside of the image or of the area of interest."""
    idle: NDArray[np.bool_] = labels.inside < MOSTLY
    if aoi is not None:
        x, y = (labels.boxes[:, :2] + labels.boxes[:, 2:]).T / 2
        idle |= ~aoi.contains_points(x, y)
    return idle


def compare(
    boxes: Boxes, labels: Boxes, idle: NDArray[np.bool_], iou_thresh: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which boxes of one class are true positives, which are false positives, and which labels are missed.

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

    Returns
    -------
    right, wrong : (D,) bool
    missed : (G,) bool
    """
    label, box, share = overlapping(labels, boxes, iou_thresh)
    label, box, share = _best_of_each(label, box, share)
    box, label, share = _best_of_each(box, label, share)
    right, wrong, missed = np.zeros(len(boxes), bool), np.ones(len(boxes), bool), ~idle
    right[box] = ~idle[label]
    wrong[box] = False
    missed[label] = False
    return right, wrong, missed


def _squares(boxes: Boxes, grid: Grid) -> Iterator[Window]:
    """Yield the square of the centre of each box; centres outside of the scene count at its edge."""
    cols = np.clip((boxes[:, 0] + boxes[:, 2]) / 2, 0, grid.width - 1).astype(np.int64) // SIDE_PX * SIDE_PX
    rows = np.clip((boxes[:, 1] + boxes[:, 3]) / 2, 0, grid.height - 1).astype(np.int64) // SIDE_PX * SIDE_PX
    for row, col in zip(rows.tolist(), cols.tolist(), strict=True):
        yield Window(row, col, SIDE_PX, SIDE_PX).clip(grid.height, grid.width)


def _best_of_each(
    key: NDArray[np.intp], other: NDArray[np.intp], share: Boxes
) -> tuple[NDArray[np.intp], NDArray[np.intp], Boxes]:
    """Return the pair of each key with the largest share, the first of equals."""
    order = np.lexsort((other, -share, key))
    key, other, share = key[order], other[order], share[order]
    first = np.append(True, key[1:] != key[:-1])[: len(key)]
    return key[first], other[first], share[first]


def histogram(counts: BoxCounts) -> ScoreHistogram:
    """Return the scores of all boxes, from the counts of `score`: right ones overlap a label by at least 0.5."""
    boxes = [box for item in counts["classes"].values() for box in item["boxes"]]
    # The first bit is that of any size, at the lowest overlap.
    rows = [(score, int(hits) & 1) for score, hits, errors in boxes if (int(hits) | int(errors)) & 1]
    scores = np.array([score for score, _ in rows], dtype=np.float64)
    return score_histogram(scores, np.array([bool(right) for _, right in rows], dtype=bool))
