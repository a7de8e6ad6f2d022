"""Where a scene is wrong: windows and objects, the worst first, and those of one cell of the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rvbuild.geo.classes import NODATA
from rvbuild.geo.sample import sampled
from rvbuild.project.applied.detection import BoxPredictTable
from rvbuild.tasks.metrics.places import MOST, Places, WorstPlaces, on_grid, squares_of
from rvbuild.tasks.segmentation.score import confusion_matrix
from rvbuild.view.readers import Memo
from rvbuild.view.scenes import ViewedScene
from rvbuild.view.shapes import boxes_of, cells_of
from rvbuild.view.tiles import evaluated_ids

SAMPLED_PX = 2_000_000
"""Pixels of a scene that are compared: of larger ones, every second, third … in each direction."""

BLOCK = (2, 16)
"""Rows and columns of squares that are compared at once."""


@dataclass(frozen=True)
class Place:
    """A window or an object that is wrong.

    Attributes
    ----------
    scene : str
    window : tuple of four float
        x0, y0, x1, y1 in pixels.
    wrong : float
        How much of it is wrong: pixels; or the score of a wrong object, or 1 for a missing one.
    share : float
        Of what is labelled in the window, from 0 to 1.
    truth, predicted : int or None
        Of a window, the pair that is most frequent among its errors; None if an object is not there.
    """

    scene: str
    window: tuple[float, ...]
    wrong: float
    share: float
    truth: int | None
    predicted: int | None

    def as_json(self) -> dict[str, Any]:
        """Return the place as JSON data."""
        return {
            "scene": self.scene,
            "window": list(self.window),
            "wrong": self.wrong,
            "share": round(self.share, 4),
            "truth": self.truth,
            "predicted": self.predicted,
        }


def places(
    scenes: Sequence[ViewedScene],
    memo: Memo,
    truth: int | None = None,
    predicted: int | None = None,
    of: str = "prediction",
) -> list[Place]:
    """Return the places of several scenes where predictions differ from labels, the worst first.

    Parameters
    ----------
    scenes
        Scenes with labels and predictions.
    memo
        Keeps what was counted.
    truth, predicted
        Only this pair of class ids, which may be equal.
    of
        Errors of the `prediction`, or of the `draft`, which is not evaluated for boxes.
    """
    places_of_all: list[Place] = []
    for scene in scenes:
        with scene.readers.turn:
            if scene.task.COUNTED == "pixels":
                places_of_all += _of_pixels(scene, memo, truth, predicted, of)
            else:
                make = {"boxes": _of_boxes, "cells": _of_cells}[scene.task.COUNTED]
                places_of_all += make(scene, memo, truth, predicted, of)
    places_of_all.sort(key=lambda place: (-place.wrong, -place.share, place.scene, place.window))
    return places_of_all[:MOST]


def count(scene: ViewedScene, of: str = "prediction") -> Places:
    """Find the worst squares of pixels, as `eval` does. Pixels that are right are counted as pairs of equal ids."""
    grid, n, null = scene.grid, len(scene.classes), scene.null_id
    step = max(1, round((grid.height * grid.width / SAMPLED_PX) ** 0.5))
    worst = WorstPlaces()
    for block in on_grid(grid.height, grid.width, BLOCK):
        with scene.area() as area:
            if area is not None and not area.intersects(block):
                continue
        truth, predicted = evaluated_ids(scene, block, step, of)
        truth[truth == NODATA] = null
        rows, cols = sampled(block, step)
        for square in squares_of(block):
            place = square._replace(row=block.row + square.row, col=block.col + square.col)
            part = _between(rows, place.row, place.row_stop), _between(cols, place.col, place.col_stop)
            pairs = confusion_matrix(truth[part], predicted[part], n)
            pairs[null] = 0
            counts = {(int(a), int(b)): int(pairs[a, b]) * step**2 for a, b in np.argwhere(pairs)}
            worst.add(place, counts, sum(each for (a, b), each in counts.items() if a != b))
    return worst.to_json()


def _between(places: NDArray[np.int64], start: int, stop: int) -> slice:
    return slice(*np.searchsorted(places, (start, stop)).tolist())


def _of_pixels(scene: ViewedScene, memo: Memo, truth: int | None, predicted: int | None, of: str) -> list[Place]:
    versions = (scene.labels_version, scene.version_of(scene.mapped(of)), scene.area_version)
    worst = memo.get(("places", of, scene.scene.id, versions), lambda: count(scene, of))
    listed: list[Place] = []
    for square in worst["places"]:
        row, col, height, width = square["window"]
        where = (float(col), float(row), float(col + width), float(row + height))
        total = sum(pixels for *_, pixels in square["errors"])
        if truth is not None and predicted is not None:
            asked = [each for each in square["errors"] if each[:2] == [truth, predicted]]
        else:
            asked = [each for each in square["errors"] if each[0] != each[1]]
        if asked:
            wrong = asked[0][2] if truth is not None else square["severity"]
            listed.append(Place(scene.scene.id, where, wrong, wrong / total, asked[0][0], asked[0][1]))
    return listed


def _of_boxes(scene: ViewedScene, memo: Memo, truth: int | None, predicted: int | None, of: str) -> list[Place]:
    """Return missed labels, and boxes that find none with the scores that they have."""
    if of == "draft":
        return []
    matched = boxes_of(scene, memo)
    threshold = _score_thresh(scene)
    errors = []
    for *box, class_id, hit in matched["labels"]:
        missed = hit is None or 0 <= hit < threshold
        if missed and predicted is None and truth in (None, class_id):
            errors.append(Place(scene.scene.id, tuple(box), 1.0, 1.0, class_id, None))
    for *box, class_id, score, hit in matched["prediction"]:
        if hit == 0 and score >= threshold and truth is None and predicted in (None, class_id):
            errors.append(Place(scene.scene.id, tuple(box), round(score, 4), 1.0, None, class_id))
    return errors


def _of_cells(scene: ViewedScene, memo: Memo, truth: int | None, predicted: int | None, of: str) -> list[Place]:
    paired = cells_of(scene, memo, of)
    errors = []
    for *box, class_id, score, label in paired["prediction"]:
        asked = (label, class_id) == (truth, predicted) if truth is not None else label != class_id
        if label is not None and asked:
            errors.append(Place(scene.scene.id, tuple(map(float, box)), round(score, 4), 1.0, label, class_id))
    return errors


def _score_thresh(scene: ViewedScene) -> float:
    predict = scene.project.predict
    return predict.score_thresh if isinstance(predict, BoxPredictTable) else 0.0
