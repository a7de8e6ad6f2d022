"""Metrics of a segmentation from its confusion matrices: `eval.json` in Raster Vision's schema, `eval.md`, a picture.

The formulas are Raster Vision's (`ClassEvaluationItem`, `ClassificationEvaluation.compute_avg`), so that figures can be
compared. For a matrix M (rows labels, columns predictions) and a class c: TP = M[c,c], FP = ΣM[:,c] - TP,
FN = ΣM[c,:] - TP, TN = the rest; recall = sensitivity = TP / (TP + FN), precision = TP / (TP + FP),
f1 = 2 P R / (P + R), specificity = TN / (TN + FP). 0 / 0 is null. The item "average" weights each metric with the share
of a class in the labels, counts null as 0 and sums the counts. Scenes are merged by adding their matrices.

Additions, beside Raster Vision's keys:

* `metrics.iou` = TP / (TP + FP + FN) of each item; null for a class that no label has. The average weights it like the
  others.
* `summary`: `{"overall": S, "per_scene": {id: S}}` with S = `{"overall_accuracy", "mean_iou", "kappa", "labelled_px",
  "not_predicted_px", "averages_without_null": {recall, precision, f1, sensitivity, specificity, iou, gt_count,
  pred_count, count_error}}`. `mean_iou` is the plain mean over the classes that some label has, without the null class;
  `kappa` is Cohen's; `averages_without_null` is the average as above over all classes but null, and null where nothing
  is labelled.

Only labelled pixels are in the matrices. The column of the null class holds pixels that have a label but no prediction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from typing_extensions import TypedDict

from rvbuild.geo.classes import Classes
from rvbuild.settings.classes import ClassSettings
from rvbuild.tasks.evaluation import ClassItem, Evaluation
from rvbuild.tasks.metrics.confusion import PICTURE, Confusion, ConfusionCounts
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

Counts = npt.NDArray[np.int64]

COLUMNS = {"IoU": "iou", "F1": "f1", "precision": "precision", "recall": "recall"}
"""The columns of the class table: heading and metric."""

METRICS = ("recall", "precision", "f1", "sensitivity", "specificity", "iou")


class SegmentationSummary(TypedDict):
    """The figures that describe a whole matrix, see the module."""

    overall_accuracy: float
    mean_iou: float
    kappa: float
    labelled_px: int
    not_predicted_px: int
    averages_without_null: dict[str, float]


class _Average(TypedDict):
    """Weighted metrics, and summed counts."""

    metrics: dict[str, float]
    gt_count: int
    pred_count: int
    count_error: int


def report(
    per_scene: Mapping[str, ConfusionCounts], classes: Classes, null_id: int
) -> tuple[Evaluation[SegmentationSummary], dict[str, str]]:
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
    matrices, overall = merged(per_scene, len(classes))
    evaluation: Evaluation[SegmentationSummary] = {
        "overall": items(overall, classes),
        "per_scene": {scene: items(matrix, classes) for scene, matrix in matrices.items()},
        "summary": {
            "overall": summary(overall, classes, null_id),
            "per_scene": {scene: summary(matrix, classes, null_id) for scene, matrix in matrices.items()},
        },
    }
    confusion = Confusion.of(overall.tolist(), classes, null_id)
    files = {"eval.md": _markdown(evaluation, confusion, null_id), PICTURE: confusion.picture("pixels")}
    return without_nan(evaluation), files


def merged(per_scene: Mapping[str, ConfusionCounts], n: int) -> tuple[dict[str, Counts], Counts]:
    """Return the matrix (n, n) of each scene, by id in alphabetical order, and their sum."""
    matrices = {
        scene: np.array(per_scene[scene]["confusion"], dtype=np.int64).reshape(n, n) for scene in sorted(per_scene)
    }
    return matrices, sum(matrices.values(), start=np.zeros((n, n), dtype=np.int64))


def items(matrix: Counts, classes: Classes) -> list[ClassItem]:
    """Return the item of each class and, last, their average.

    Parameters
    ----------
    matrix
        (n, n) int64, rows labels, columns predictions.
    classes
        The class list of the settings.
    """
    of_classes = [_item(matrix, item) for item in classes]
    average = _average(of_classes)
    last: ClassItem = {
        "class_name": "average",
        "metrics": average["metrics"],
        "gt_count": average["gt_count"],
        "pred_count": average["pred_count"],
        "count_error": average["count_error"],
        "conf_mat": matrix.tolist(),
        "conf_mat_frac": _fractions(matrix),
    }
    return [*of_classes, last]


def summary(matrix: Counts, classes: Classes, null_id: int) -> SegmentationSummary:
    """Return the figures that describe a whole matrix, see the module."""
    trained = [_item(matrix, item) for item in without_null(classes, null_id)]
    total = int(matrix.sum())
    agreement = ratio(int(np.trace(matrix)), total)
    # Python's integers: the product of two pixel counts does not always fit 64 bits.
    by_chance = ratio(
        sum(int(a) * int(b) for a, b in zip(matrix.sum(axis=0), matrix.sum(axis=1), strict=True)), total**2
    )
    return {
        "overall_accuracy": agreement,
        "mean_iou": mean(item["metrics"]["iou"] for item in trained),
        "kappa": ratio(agreement - by_chance, 1.0 - by_chance),
        "labelled_px": total,
        "not_predicted_px": int(matrix[:, null_id].sum()),
        "averages_without_null": {**_flat(_average(trained)), **({} if total else dict.fromkeys(METRICS, math.nan))},
    }


def _item(matrix: Counts, of_class: ClassSettings) -> ClassItem:
    """Return the item of one class against all others."""
    class_id = of_class["id"]
    tp = int(matrix[class_id, class_id])
    fp = int(matrix[:, class_id].sum()) - tp
    fn = int(matrix[class_id, :].sum()) - tp
    tn = int(matrix.sum()) - tp - fp - fn
    recall, precision = ratio(tp, tp + fn), ratio(tp, tp + fp)
    binary = np.array([[tn, fp], [fn, tp]], dtype=np.int64)
    fractions = _fractions(binary)
    return {
        "class_id": class_id,
        "class_name": of_class["name"],
        "gt_count": tp + fn,
        "pred_count": tp + fp,
        "count_error": abs(fn - fp),
        "relative_frequency": ratio(tp + fn, tn + fp + fn + tp),
        "metrics": {
            "recall": recall,
            "precision": precision,
            "f1": ratio(2 * precision * recall, precision + recall),
            "sensitivity": recall,
            "specificity": ratio(tn, tn + fp),
            "iou": ratio(tp, tp + fp + fn) if tp + fn else math.nan,
        },
        "conf_mat": binary.tolist(),
        "conf_mat_frac": fractions,
        "conf_mat_dict": {"TN": tn, "FP": fp, "FN": fn, "TP": tp},
        "conf_mat_frac_dict": {
            "TN": fractions[0][0],
            "FP": fractions[0][1],
            "FN": fractions[1][0],
            "TP": fractions[1][1],
        },
    }


def _average(of_classes: Sequence[ClassItem]) -> _Average:
    """Return metrics weighted by labelled pixels (null counts as 0) and summed counts."""
    total = sum(item["gt_count"] for item in of_classes)

    def weighted(metric: str) -> float:
        terms = (item["metrics"][metric] * ratio(item["gt_count"], total) for item in of_classes)
        return math.fsum(0.0 if math.isnan(term) else term for term in terms)

    return {
        "metrics": {metric: weighted(metric) for metric in METRICS},
        "gt_count": total,
        "pred_count": sum(item["pred_count"] for item in of_classes),
        "count_error": sum(item["count_error"] for item in of_classes),
    }


def _flat(average: _Average) -> dict[str, float]:
    """Return an average with its metrics and counts side by side."""
    counts = {key: average[key] for key in ("gt_count", "pred_count", "count_error")}
    return {**average["metrics"], **counts}


def _fractions(matrix: Counts) -> list[list[float]]:
    total = int(matrix.sum())
    return [[ratio(int(value), total) for value in row] for row in matrix]


def _markdown(evaluation: Evaluation[SegmentationSummary], confusion: Confusion, null_id: int) -> str:
    """Return the tables of `eval.md`: all classes over all scenes, all scenes, then the classes of each scene."""
    scenes, summary = sorted(evaluation["per_scene"]), evaluation["summary"]
    average = summary["overall"]["averages_without_null"]
    blocks = ["# Evaluation", _sentence(summary["overall"], len(scenes)), "## Classes"]
    blocks.append(class_table(evaluation["overall"], average, null_id, COLUMNS, "labelled px"))
    blocks += unlabelled_note(evaluation["overall"], null_id) if scenes else []
    blocks.append("## Confusion\n\nRows are labels, columns predictions; share of the labelled pixels of a row.")
    blocks += [confusion.table(shares=True), f"![labels and predictions]({PICTURE})"]
    if scenes:
        blocks += ["## Scenes", _scene_table(summary["per_scene"])]
    for scene in scenes if len(scenes) > 1 else []:
        average = summary["per_scene"][scene]["averages_without_null"]
        of_scene = class_table(evaluation["per_scene"][scene], average, null_id, COLUMNS, "labelled px")
        blocks += [f"### {cell(escaped(scene))}", of_scene]
    return "\n\n".join(blocks) + "\n"


def _sentence(overall: SegmentationSummary, scenes: int) -> str:
    text = (
        f"Mean IoU {figure(overall['mean_iou'])}, overall accuracy {figure(overall['overall_accuracy'])}, "
        f"kappa {figure(overall['kappa'])} over {overall['labelled_px']:,} labelled pixels "
        f"of {scenes} {'scene' if scenes == 1 else 'scenes'}."
    )
    if overall["not_predicted_px"]:
        text += f" {overall['not_predicted_px']:,} of them have no prediction and count as errors."
    return text


def _scene_table(figures: Mapping[str, SegmentationSummary]) -> str:
    rows = [
        [
            escaped(scene),
            figure(f["mean_iou"]),
            figure(f["overall_accuracy"]),
            figure(f["kappa"]),
            f"{f['labelled_px']:,}",
        ]
        for scene, f in sorted(figures.items())
    ]
    return table(["scene", "mean IoU", "accuracy", "kappa", "labelled px"], rows)
