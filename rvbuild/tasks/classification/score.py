"""The evaluation of one scene's cells: predictions and labels that have the same place in the grid compared."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from rvbuild.errors import DataError
from rvbuild.geo.area.aoi import Aoi
from rvbuild.geo.classes import NamedClasses
from rvbuild.geo.windows import Window
from rvbuild.progress import Progress
from rvbuild.tasks.classification.cells import class_ids, read_cells, shortest
from rvbuild.tasks.metrics.confusion import ConfusionCounts
from rvbuild.tasks.metrics.places import WorstPlaces
from rvbuild.tasks.metrics.score_histogram import ScoreHistogram, score_histogram
from rvbuild.tasks.metrics.tables import without_null


class CellCounts(ConfusionCounts):
    """What is counted in a scene."""

    scores: list[list[float]]
    """Of each cell with label and prediction, its class id and the scores of all classes but null, in id order."""


class CellReader(Protocol):
    """The interface of labels that the count needs: the class of a cell."""

    def cell(self, window: Window) -> int:
        """Return the class id of a cell of the grid, null if it is unlabelled."""


def score(
    predictions: Path,
    labels: CellReader,
    aoi: Aoi | None,
    classes: NamedClasses,
    null_id: int,
    progress: Progress,
    worst: WorstPlaces,
) -> CellCounts:
    """Compare predicted cells with labels over one scene.

    Only labelled cells count whose centre lies in the AOI if there is one. A cell without a prediction counts in the
    column of the null class, so it is an error of its class and is not forgotten.

    Parameters
    ----------
    predictions
        A `cells.json`.
    labels
        The labels of the same scene.
    aoi
        The area of interest, or None for the whole scene.
    classes, null_id
        The class list of the settings, and the id of its null class.
    progress
        Receives progress, in rows of cells.
    worst
        Receives the cells that are wrong. The severity is the difference between the scores of the predicted class and
        of the label's, in [0, 1]; 1 without a prediction.

    Returns
    -------
    CellCounts
        Cells in row-major order.

    Raises
    ------
    DataError
        The cells were predicted for other classes.
    """
    cells, n = read_cells(predictions), len(classes)
    expected = [item["id"] for item in without_null(classes, null_id)]
    if cells.output_ids != expected:
        raise DataError(
            f"{predictions}: expected a score for each of the classes {expected}, found {cells.output_ids}; predict "
            "the scene again"
        )
    ids, predicted, scores = class_ids(cells), cells.predicted, cells.scores
    confusion = np.zeros((n, n), dtype=np.int64)
    scored: list[list[float]] = []
    rows, columns = predicted.shape
    progress.start("evaluate", rows, "rows of cells")
    for row in range(rows):
        for column in range(columns):
            window = cells.window(row, column)
            truth = null_id if aoi is not None and not aoi.contains_centre(window) else labels.cell(window)
            if truth == null_id:
                continue
            prediction = int(ids[row, column]) if predicted[row, column] else null_id
            confusion[truth, prediction] += 1
            if predicted[row, column]:
                of_classes = shortest(scores[row, column][np.newaxis])[0]
                scored.append([truth, *of_classes])
            if prediction != truth:
                severity = 1.0
                if prediction != null_id:
                    severity = of_classes[expected.index(prediction)] - of_classes[expected.index(truth)]
                worst.add(window.clip(cells.grid.height, cells.grid.width), {(truth, prediction): 1}, severity)
        progress.advance()
    return {"confusion": confusion.tolist(), "scores": scored}


def histogram(counts: CellCounts, classes: NamedClasses, null_id: int) -> ScoreHistogram:
    """Return the scores of the predicted classes, from the counts of `score`."""
    ids = np.array([item["id"] for item in without_null(classes, null_id)])
    rows = np.array(counts["scores"], dtype=np.float64).reshape(-1, 1 + len(ids))
    return score_histogram(rows[:, 1:].max(axis=1, initial=0.0), ids[rows[:, 1:].argmax(axis=1)] == rows[:, 0])
