"""Metrics of boxes: `eval.json` in Raster Vision's schema, and `eval.md`.

`overall` and `per_scene` hold an item for each class but null, and their average: `class_id`, `class_name`, `gt_count`,
`pred_count`, `count_error`, `true_pos`, `false_pos`, `false_neg` and `metrics`: recall = sensitivity = TP / (TP + FN),
precision = TP / (TP + FP), f1 = 2 P R / (P + R), specificity null. What is not known, as 0 / 0, is null. The average
weights the metrics of the classes by their labels, with what is not known as 0; average precisions, which Raster Vision
does not have, are averaged over the classes that have them, and are null if none has.

Beside Raster Vision's keys there are, in `metrics`, COCO's average precisions: `ap` over ten thresholds of intersection
over union from 0.5 to 0.95, `ap50`, `ap75`, and `ap_small`, `ap_medium`, `ap_large` by the area of boxes: below 32²
pixels, up to 96², and above. And `summary`: `{"overall": S, "per_scene": {id: S}}` with S = `{"mean_ap50", "mean_ap",
"mean_ap75", "mean_ap_small", …, "precision", "recall", "f1", "labels", "boxes", "iou_thresh", "score_thresh",
"best_score_thresh", "best_f1"}`: means over the classes that have labels, precision and recall over all boxes that
reach `score_thresh`, and the threshold for which F1 would be highest, by COCO's matching at an intersection over union
of 0.5; and of all scenes together `curves`: by class the precision at each `recall`, at 0.5 too, which
`precision_recall.svg` shows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NotRequired

import numpy as np
from typing_extensions import TypedDict

from rvbuild.geo.classes import Classes
from rvbuild.settings.classes import ClassSettings
from rvbuild.tasks.detection.score import BoxClassCounts, BoxCounts
from rvbuild.tasks.evaluation import ClassItem, Evaluation
from rvbuild.tasks.metrics.average_precision import (
    IOUS,
    RECALLS,
    SIZES,
    Matches,
    average,
    best_score,
    precision,
    rates,
)
from rvbuild.tasks.metrics.precision_recall import PICTURE, Curve, picture
from rvbuild.tasks.metrics.tables import (
    cell,
    escaped,
    figure,
    mean,
    ratio,
    table,
    unlabelled_note,
    without_nan,
    without_null,
)

COLUMNS = {"AP50": "ap50", "AP": "ap", "precision": "precision", "recall": "recall", "F1": "f1"}
"""The columns of the tables: heading and metric."""

_AVERAGES = ("ap50", "ap", "ap75", *(f"ap_{size}" for size in SIZES if size != "all"))


class Curves(TypedDict):
    """Precision and recall of all scenes together."""

    recall: list[float]
    precision: dict[str, list[float]]
    """By class, at each recall."""


class _Rates(TypedDict):
    precision: float
    recall: float
    f1: float


class BoxSummary(TypedDict):
    """The figures that describe the whole, see the module."""

    mean_ap50: float
    mean_ap: float
    mean_ap75: float
    mean_ap_small: float
    mean_ap_medium: float
    mean_ap_large: float
    labels: int
    boxes: int
    iou_thresh: float
    score_thresh: float
    best_score_thresh: float
    best_f1: float
    precision: float
    recall: float
    f1: float
    curves: NotRequired[Curves]
    """Not of each scene."""


def report(
    per_scene: Mapping[str, BoxCounts], classes: Classes, null_id: int
) -> tuple[Evaluation[BoxSummary], dict[str, str]]:
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
        `eval.md`: the same as Markdown tables, scenes in alphabetical order; and `precision_recall.svg`, the curves.
    """
    trained, scenes = without_null(classes, null_id), sorted(per_scene)
    counts = [per_scene[scene] for scene in scenes]
    items, summary, curves = _figures(counts, trained)
    parts = {scene: _figures([per_scene[scene]], trained) for scene in scenes}
    evaluation: Evaluation[BoxSummary] = {
        "overall": items,
        "per_scene": {scene: items for scene, (items, _, _) in parts.items()},
        "summary": {
            "overall": {**summary, "curves": curves},
            "per_scene": {scene: summary for scene, (_, summary, _) in parts.items()},
        },
    }
    files = {
        "eval.md": _markdown(evaluation, null_id),
        PICTURE: _picture(trained, counts, items, curves, summary["score_thresh"]),
    }
    return without_nan(evaluation), files


def _figures(counts: Sequence[BoxCounts], trained: Classes) -> tuple[list[ClassItem], BoxSummary, Curves]:
    """Return the items of the classes with their average, the figures that describe the whole, and its curves."""
    items: list[ClassItem] = []
    precisions: dict[str, list[float]] = {}
    matches: list[Matches] = []
    for item in trained:
        parts = [scene["classes"][str(item["id"])] for scene in counts]
        of_class = [_matches(part) for part in parts]
        values, matches = precision(of_class), [*matches, *of_class]
        right, wrong, missed = (sum(part["found"][place] for part in parts) for place in range(3))
        aps = {"ap50": average(values, iou=0.5), "ap": average(values), "ap75": average(values, iou=0.75)}
        aps |= {f"ap_{size}": average(values, size) for size in SIZES if size != "all"}
        items.append(_item(item, right, wrong, missed, aps))
        precisions[item["name"]] = values[0, 0].tolist()
    means = {name: mean(item["metrics"][name] for item in items) for name in _AVERAGES}
    right, wrong = sum(item["true_pos"] for item in items), sum(item["false_pos"] for item in items)
    missed = sum(item["false_neg"] for item in items)
    rates, (best_score_thresh, best_f1) = _rates(right, wrong, missed), best_score(matches)
    summary: BoxSummary = {
        "mean_ap50": means["ap50"],
        "mean_ap": means["ap"],
        "mean_ap75": means["ap75"],
        "mean_ap_small": means["ap_small"],
        "mean_ap_medium": means["ap_medium"],
        "mean_ap_large": means["ap_large"],
        "precision": rates["precision"],
        "recall": rates["recall"],
        "f1": rates["f1"],
        "labels": right + missed,
        "boxes": right + wrong,
        "iou_thresh": counts[0]["iou_thresh"] if counts else math.nan,
        "score_thresh": counts[0]["score_thresh"] if counts else math.nan,
        "best_score_thresh": best_score_thresh,
        "best_f1": best_f1,
    }
    return [*items, _average(items)], summary, {"recall": RECALLS.tolist(), "precision": precisions}


def _matches(part: BoxClassCounts) -> Matches:
    rows = part["boxes"]
    return Matches(
        scores=np.array([score for score, _, _ in rows], dtype=np.float64),
        hits=np.array([hits for _, hits, _ in rows], dtype=np.uint64),
        errors=np.array([errors for _, _, errors in rows], dtype=np.uint64),
        labels=np.array(part["labels"], dtype=np.int64),
    )


def _rates(right: int, wrong: int, missed: int) -> _Rates:
    recall, exactness = ratio(right, right + missed), ratio(right, right + wrong)
    f1 = ratio(2 * exactness * recall, exactness + recall)
    return {"precision": exactness, "recall": recall, "f1": f1}


def _item(of_class: ClassSettings, right: int, wrong: int, missed: int, aps: Mapping[str, float]) -> ClassItem:
    rates = _rates(right, wrong, missed)
    return {
        "class_id": of_class["id"],
        "class_name": of_class["name"],
        "gt_count": right + missed,
        "pred_count": right + wrong,
        "count_error": abs(missed - wrong),
        "true_pos": right,
        "false_pos": wrong,
        "false_neg": missed,
        "metrics": {
            "precision": rates["precision"],
            "recall": rates["recall"],
            "f1": rates["f1"],
            "sensitivity": rates["recall"],
            "specificity": math.nan,
            **aps,
        },
    }


def _average(items: Sequence[ClassItem]) -> ClassItem:
    """Return Raster Vision's average, weighted by labels; in its own metrics, unknown values count as 0."""
    labels = sum(item["gt_count"] for item in items)
    names = list(items[0]["metrics"]) if items else []
    weighted = {}
    for name in names:
        known = [item for item in items if not math.isnan(item["metrics"][name])]
        # A class without an object of a size has no average precision of that size, and is not in its average.
        total, none = (sum(i["gt_count"] for i in known), math.nan) if name in _AVERAGES else (labels, 0.0)
        terms = (item["metrics"][name] * item["gt_count"] / total for item in known)
        weighted[name] = math.fsum(terms) if total else none
    return {
        "class_name": "average",
        "metrics": weighted,
        "gt_count": labels,
        "pred_count": sum(item["pred_count"] for item in items),
        "count_error": sum(item["count_error"] for item in items),
    }


def _picture(
    trained: Classes, counts: Sequence[BoxCounts], items: Sequence[ClassItem], curves: Curves, score_thresh: float
) -> str:
    """Return the curves of all scenes together, with a point on each for the score threshold."""
    drawn = []
    for of_class, item in zip(trained, items[:-1], strict=True):
        matches = [_matches(scene["classes"][str(of_class["id"])]) for scene in counts]
        precisions, point = curves["precision"][of_class["name"]], rates(matches, score_thresh)
        drawn.append(Curve(of_class["name"], of_class["color"], precisions, item["metrics"]["ap50"], point))
    return picture(RECALLS.tolist(), drawn, float(IOUS[0]), score_thresh)


def _markdown(evaluation: Evaluation[BoxSummary], null_id: int) -> str:
    """Return the tables of `eval.md`: all classes over all scenes, all scenes, then the classes of each scene."""
    scenes, summary = sorted(evaluation["per_scene"]), evaluation["summary"]
    blocks = ["# Evaluation", _sentence(summary["overall"], len(scenes)), "## Classes"]
    blocks.append(_class_table(evaluation["overall"]))
    blocks += unlabelled_note(evaluation["overall"], null_id) if scenes else []
    blocks.append(f"![Precision and recall]({PICTURE})")
    blocks += ["## Average precision by size", _size_table(evaluation["overall"][:-1])]
    if scenes:
        blocks += ["## Scenes", _scene_table(summary["per_scene"])]
    for scene in scenes if len(scenes) > 1 else []:
        blocks += [f"### {cell(escaped(scene))}", _class_table(evaluation["per_scene"][scene])]
    return "\n\n".join(blocks) + "\n"


def _sentence(overall: BoxSummary, scenes: int) -> str:
    return (
        f"Mean average precision {figure(overall['mean_ap50'])} at an overlap (IoU) of 0.5, "
        f"{figure(overall['mean_ap'])} over 0.5 to 0.95. Of {overall['labels']:,} labelled objects in {scenes} "
        f"{'scene' if scenes == 1 else 'scenes'}, {figure(overall['recall'])} are found; of {overall['boxes']:,} "
        f"boxes, {figure(overall['precision'])} are right: they overlap a label by more than "
        f"{overall['iou_thresh']:g}. Boxes count if their score is at least {overall['score_thresh']:g}."
    ) + _advice(overall)


def _advice(overall: BoxSummary) -> str:
    """Return the effect of another threshold; rounded down, so that the box with exactly that score is included."""
    best = overall["best_score_thresh"]
    if math.isnan(best):
        return ""
    return (
        f" F1 would be highest, {figure(overall['best_f1'])}, with `score_thresh` = {math.floor(best * 100) / 100:g}."
    )


def _class_table(items: Sequence[ClassItem]) -> str:
    rows = [
        [escaped(item["class_name"]), *(figure(item["metrics"][name]) for name in COLUMNS.values()),
         f"{item['gt_count']:,}", f"{item['pred_count']:,}"]
        for item in items[:-1]
    ]  # fmt: skip
    average = items[-1]
    metrics = average["metrics"] if average["gt_count"] else {}
    figures = [figure(metrics.get(name, math.nan)) for name in COLUMNS.values()]
    rows.append(["**weighted average**", *figures, f"{average['gt_count']:,}", f"{average['pred_count']:,}"])
    return table(["class", *COLUMNS, "labels", "boxes"], rows)


def _size_table(items: Sequence[ClassItem]) -> str:
    sizes = [size for size in SIZES if size != "all"]
    rows = [[escaped(item["class_name"]), *(figure(item["metrics"][f"ap_{size}"]) for size in sizes)] for item in items]
    return table(["class", *(f"AP {size}" for size in sizes)], rows)


def _scene_table(figures: Mapping[str, BoxSummary]) -> str:
    rows = [
        [escaped(scene), figure(f["mean_ap50"]), figure(f["mean_ap"]), figure(f["precision"]), figure(f["recall"]),
         f"{f['labels']:,}", f"{f['boxes']:,}"]
        for scene, f in sorted(figures.items())
    ]  # fmt: skip
    return table(["scene", "mean AP50", "mean AP", "precision", "recall", "labels", "boxes"], rows)
