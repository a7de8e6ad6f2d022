"""Where a scene is wrong: windows and objects, the worst first, and those of one cell of the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rvbuild.geo.classes import NODATA
from rvbuild.geo.windows import Window
from rvbuild.project.applied.detection import BoxPredictTable
from rvbuild.view.readers import Memo
from rvbuild.view.scenes import ViewedScene
from rvbuild.view.shapes import boxes_of, cells_of
from rvbuild.view.tiles import evaluated_ids

MOST = 50
"""Places that are listed."""

SAMPLED_PX = 2_000_000
"""Pixels of a scene that are compared: of larger ones, every second, third … in each direction."""

ACROSS = 48
"""Windows along the longer side of a scene, at most."""

BAND_PX = 1 << 20


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


@dataclass(frozen=True)
class Counted:
    """The pairs of label and prediction in each window of a scene.

    Attributes
    ----------
    windows : list of Window
    pairs : numpy.ndarray
        (windows, n, n) int64: rows are labels, columns predictions, in sampled pixels.
    step : int
        Every which pixel was compared.
    """

    windows: list[Window]
    pairs: NDArray[np.int64]
    step: int


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
        Errors of the `prediction`, or of the `draft`, which maps pixels.
    """
    found: list[Place] = []
    for scene in scenes:
        with scene.readers.turn:
            if scene.task.COUNTED == "pixels":
                found += _of_pixels(scene, memo, truth, predicted, of)
            else:
                make = {"boxes": _of_boxes, "cells": _of_cells}[scene.task.COUNTED]
                found += make(scene, memo, truth, predicted)
    found.sort(key=lambda place: (-place.wrong, -place.share, place.scene, place.window))
    return found[:MOST]


def count(scene: ViewedScene, of: str = "prediction") -> Counted:
    """Count the pairs of labels and predictions of pixels, a band of windows at a time."""
    grid, n = scene.grid, len(scene.classes)
    step = max(1, round((grid.height * grid.width / SAMPLED_PX) ** 0.5))
    side = max(scene.project.chip_px, -(-max(grid.height, grid.width) // ACROSS), step)
    windows: list[Window] = []
    pairs: list[NDArray[np.int64]] = []
    for row in range(0, grid.height, side):
        for col in range(0, grid.width, side):
            window = Window(row, col, side, side).clip(grid.height, grid.width)
            with scene.area() as area:
                if area is not None and not area.intersects(window):
                    continue
            truth, predicted = evaluated_ids(scene, window, step, of)
            known = truth != NODATA
            codes = truth[known].astype(np.int64) * n + predicted[known]
            if len(codes):
                windows.append(window)
                pairs.append(np.bincount(codes, minlength=n * n)[: n * n].reshape(n, n))
    return Counted(windows, np.array(pairs, dtype=np.int64).reshape(-1, n, n), step)


def _of_pixels(scene: ViewedScene, memo: Memo, truth: int | None, predicted: int | None, of: str) -> list[Place]:
    versions = (scene.labels_version, scene.version_of(scene.mapped(of)), scene.area_version)
    counted = memo.get(("places", of, scene.scene.id, versions), lambda: count(scene, of))
    found = []
    for window, pairs in zip(counted.windows, counted.pairs, strict=True):
        errors = pairs.copy()
        np.fill_diagonal(errors, 0)
        if truth is not None and predicted is not None:
            wrong, pair = int(pairs[truth, predicted]), (truth, predicted)
        else:
            wrong = int(errors.sum())
            pair = divmod(int(errors.argmax()), len(errors))
        if wrong:
            where = (float(window.col), float(window.row), float(window.col_stop), float(window.row_stop))
            found.append(
                Place(scene.scene.id, where, wrong * counted.step**2, wrong / int(pairs.sum()), int(pair[0]), pair[1])
            )
    return found


def _of_boxes(scene: ViewedScene, memo: Memo, truth: int | None, predicted: int | None) -> list[Place]:
    """Return missed labels, and boxes that find none with the scores that they have."""
    matched = boxes_of(scene, memo)
    threshold = _score_thresh(scene)
    found = []
    for *box, class_id, hit in matched["labels"]:
        missed = hit is None or 0 <= hit < threshold
        if missed and predicted is None and truth in (None, class_id):
            found.append(Place(scene.scene.id, tuple(box), 1.0, 1.0, class_id, None))
    for *box, class_id, score, hit in matched["prediction"]:
        if hit == 0 and score >= threshold and truth is None and predicted in (None, class_id):
            found.append(Place(scene.scene.id, tuple(box), round(score, 4), 1.0, None, class_id))
    return found


def _of_cells(scene: ViewedScene, memo: Memo, truth: int | None, predicted: int | None) -> list[Place]:
    paired = cells_of(scene, memo)
    found = []
    for *box, class_id, score, label in paired["prediction"]:
        asked = (label, class_id) == (truth, predicted) if truth is not None else label != class_id
        if label is not None and asked:
            found.append(Place(scene.scene.id, tuple(map(float, box)), round(score, 4), 1.0, label, class_id))
    return found


def _score_thresh(scene: ViewedScene) -> float:
    predict = scene.project.predict
    return predict.score_thresh if isinstance(predict, BoxPredictTable) else 0.0
