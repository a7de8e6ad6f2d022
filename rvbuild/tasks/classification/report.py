"""Metrics of classified cells: `eval.json` in Raster Vision's schema, `eval.md`, and a picture.

The items of classes and their average are those of `rvbuild.tasks.segmentation.report`, with cells for pixels. Beside
Raster Vision's keys there are:

* `metrics.iou` = TP / (TP + FP + FN), and `metrics.average_precision`: the sum over falling thresholds of the score of
  the class, of (recall - recall before) * precision; cells of equal score count together. Null for a class that no
  label has. The average weights both like the others.
* `summary`: `{"overall": S, "per_scene": {id: S}}` with S = `{"accuracy", "top_k_accuracy": {"1": …}, "kappa",
  "mean_f1", "mean_average_precision", "labelled_cells", "not_predicted_cells", "averages_without_null": {…}}`. Means
  are plain ones over the classes that some label has, without null. A cell is right among the top k if fewer than k
  classes have a higher score, or the same and a lower id.

Only labelled cells are in the matrices. The column of the null class holds cells that have a label but no prediction:
they are errors, and lower the recall that precision is averaged over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import TypedDict

from rvbuild.geo.classes import Classes
from rvbuild.tasks.classification.score import CellCounts
from rvbuild.tasks.evaluation import ClassItem, Evaluation
from rvbuild.tasks.metrics.confusion import PICTURE, Confusion
from rvbuild.tasks.metrics.tables import (
    cell,
    class_table,
    escaped,
    figure,
    mean,
    ratio,
    table,
    unlabelled_note,
    without_nan,
    without_null,
)
from rvbuild.tasks.segmentation import report as segmentation_report

COLUMNS = {"F1": "f1", "precision": "precision", "recall": "recall", "AP": "average_precision"}
"""The columns of the class table: heading and metric."""
Scores = npt.NDArray[np.float64]
"""(N, 1 + K): class id and scores of the classes without null, a row for each cell with label and prediction."""

TOP = (1, 2, 3, 5)
"""The k of the top-k accuracies, as far as there are more classes than that."""


class CellSummary(TypedDict):
    """The figures that describe the whole, see the module."""

    accuracy: float
    top_k_accuracy: dict[str, float]
    kappa: float
    mean_f1: float
    mean_average_precision: float
    labelled_cells: int
    not_predicted_cells: int
    averages_without_null: dict[str, float]


def report(
    per_scene: Mapping[str, CellCounts], classes: Classes, null_id: int
) -> tuple[Evaluation[CellSummary], dict[str, str]]:
    """Merge the counts of scenes and compute their metrics.

    Parameters
    ----------
    per_scene
        The counts of each scene, by scene id.
    classes, null_id
        The class list of the settings, and the id of its null class.

    Returns
    -------
    eval_json
        The object of `eval.json`, see the module.
    files
        `eval.md`: the same as Markdown tables, scenes in alphabetical order; and `confusion.svg`, over all scenes.
    """
    n = len(classes)
    matrices, matrix = segmentation_report.merged(per_scene, n)
    scores = {scene: np.array(per_scene[scene]["scores"]).reshape(-1, n) for scene in matrices}
    parts = {scene: _figures(matrices[scene], scores[scene], classes, null_id) for scene in matrices}
    items, summary = _figures(matrix, np.concatenate([np.empty((0, n)), *scores.values()]), classes, null_id)
    evaluation: Evaluation[CellSummary] = {
        "overall": items,
        "per_scene": {scene: items for scene, (items, _) in parts.items()},
        "summary": {"overall": summary, "per_scene": {scene: figures for scene, (_, figures) in parts.items()}},
    }
    confusion = Confusion.of(matrix.tolist(), classes, null_id)
    files = {"eval.md": _markdown(evaluation, confusion, null_id), PICTURE: confusion.picture("cells")}
    return without_nan(evaluation), files


def average_precision(positive: npt.NDArray[np.bool_], scores: npt.NDArray[np.floating[Any]], missed: int = 0) -> float:
    """Return the average precision of one class.

    Parameters
    ----------
    positive
        (N,) bool: the cells of the class.
    scores
        (N,) the score of the class.
    missed
        Further cells of the class, which have no score.
    """
    total = int(positive.sum()) + missed
    if not total:
        return math.nan
    order = np.argsort(-scores, kind="stable")
    hits, ranked = np.cumsum(positive[order]), scores[order]
    # The last of each run of equal scores: cells between have no threshold of their own.
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.empty(0, dtype=np.intp)
    precision = hits[ends] / (ends + 1)
    return float(np.sum(np.diff(hits[ends], prepend=0) / total * precision))


def top_k(scores: Scores, output_ids: Sequence[int], labelled: int) -> dict[str, float]:
    """Return the share of `labelled` cells whose class is among the k most likely, by k."""
    positions = {class_id: position for position, class_id in enumerate(output_ids)}
    truth = np.array([positions[int(class_id)] for class_id in scores[:, 0]], dtype=np.intp)
    values = scores[:, 1:]
    own = values[np.arange(len(values)), truth][:, np.newaxis]
    before = np.arange(values.shape[1]) < truth[:, np.newaxis]
    rank = np.sum((values > own) | ((values == own) & before), axis=1)
    few = [k for k in TOP if k < len(output_ids)]
    return {str(k): ratio(int(np.count_nonzero(rank < k)), labelled) for k in few}


def _figures(
    matrix: npt.NDArray[np.int64], scores: Scores, classes: Classes, null_id: int
) -> tuple[list[ClassItem], CellSummary]:
    """Return the items of the classes with their average, and the figures that describe the whole."""
    items = segmentation_report.items(matrix, classes)
    base = segmentation_report.summary(matrix, classes, null_id)
    output_ids = [item["id"] for item in without_null(classes, null_id)]
    for item in items[:-1]:
        class_id, value = item["class_id"], math.nan
        if class_id != null_id:
            own = scores[:, 1 + output_ids.index(class_id)]
            value = average_precision(scores[:, 0] == class_id, own, int(matrix[class_id, null_id]))
        item["metrics"]["average_precision"] = value
    labelled = int(matrix.sum())
    weighted = [item["metrics"]["average_precision"] * ratio(item["gt_count"], labelled) for item in items[:-1]]
    average = math.fsum(0.0 if math.isnan(term) else term for term in weighted) if labelled else math.nan
    items[-1]["metrics"]["average_precision"] = average
    present = [item for item in items[:-1] if item["class_id"] != null_id and item["gt_count"]]
    f1 = [item["metrics"]["f1"] for item in present]
    return items, {
        "accuracy": base["overall_accuracy"],
        "top_k_accuracy": top_k(scores, output_ids, labelled),
        "kappa": base["kappa"],
        # Of a class that has labels, and no hit, F1 is 0.
        "mean_f1": mean(0.0 if math.isnan(value) else value for value in f1),
        "mean_average_precision": mean(item["metrics"]["average_precision"] for item in present),
        "labelled_cells": labelled,
        "not_predicted_cells": base["not_predicted_px"],
        # No label is null, so null has no weight.
        "averages_without_null": {**base["averages_without_null"], "average_precision": average},
    }


def _markdown(evaluation: Evaluation[CellSummary], confusion: Confusion, null_id: int) -> str:
    """Return the tables of `eval.md`: all classes over all scenes, all scenes, then the classes of each scene."""
    scenes, summary = sorted(evaluation["per_scene"]), evaluation["summary"]
    average = summary["overall"]["averages_without_null"]
    blocks = ["# Evaluation", _sentence(summary["overall"], len(scenes)), "## Classes"]
    blocks.append(class_table(evaluation["overall"], average, null_id, COLUMNS, "labelled cells"))
    blocks += unlabelled_note(evaluation["overall"], null_id) if scenes else []
    blocks.append("## Confusion\n\nRows are labels, columns predictions; cells.")
    blocks += [confusion.table(shares=False), f"![labels and predictions]({PICTURE})"]
    if scenes:
        blocks += ["## Scenes", _scene_table(summary["per_scene"])]
    for scene in scenes if len(scenes) > 1 else []:
        average = summary["per_scene"][scene]["averages_without_null"]
        of_scene = class_table(evaluation["per_scene"][scene], average, null_id, COLUMNS, "labelled cells")
        blocks += [f"### {cell(escaped(scene))}", of_scene]
    return "\n\n".join(blocks) + "\n"


def _sentence(overall: CellSummary, scenes: int) -> str:
    top = "".join(f", top-{k} {figure(value)}" for k, value in overall["top_k_accuracy"].items() if k != "1")
    text = (
        f"Accuracy {figure(overall['accuracy'])}{top}, mean F1 {figure(overall['mean_f1'])}, mean average precision "
        f"{figure(overall['mean_average_precision'])}, kappa {figure(overall['kappa'])} over "
        f"{overall['labelled_cells']:,} labelled cells of {scenes} {'scene' if scenes == 1 else 'scenes'}."
    )
    if overall["not_predicted_cells"]:
        text += f" {overall['not_predicted_cells']:,} of them have no prediction and count as errors."
    return text


def _scene_table(figures: Mapping[str, CellSummary]) -> str:
    rows = [
        [escaped(scene), figure(f["accuracy"]), figure(f["mean_f1"]), figure(f["mean_average_precision"]),
         figure(f["kappa"]), f"{f['labelled_cells']:,}"]
        for scene, f in sorted(figures.items())
    ]  # fmt: skip
    return table(["scene", "accuracy", "mean F1", "mean AP", "kappa", "labelled cells"], rows)
