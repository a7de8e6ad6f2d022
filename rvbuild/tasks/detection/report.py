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
from typing import Any

import numpy as np

from rvbuild.tasks.detection.average_precision import (
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
from rvbuild.tasks.metrics.tables import cell, escaped, figure, mean, ratio, table, unlabelled_note, without_nan

Json = dict[str, Any]

COLUMNS = {"AP50": "ap50", "AP": "ap", "precision": "precision", "recall": "recall", "F1": "f1"}
"""The columns of the tables: heading and metric."""

_AVERAGES = ("ap50", "ap", "ap75", *(f"ap_{size}" for size in SIZES if size != "all"))


def report(
    per_scene: Mapping[str, Mapping[str, Any]], classes: Sequence[Mapping[str, Any]], null_id: int
) -> tuple[Json, dict[str, str]]:
    """Merge the counts of scenes and compute their metrics.

    Parameters
    ----------
    per_scene
        The counts of each scene, from `detection_score.score`, by scene id.
    classes, null_id
        The class list of the settings, and the id of its null class.

    Returns
    -------
    eval_json
        The object of `eval.json`, see the module.
    files
        `eval.md`: the same as Markdown tables, scenes in alphabetical order; and `precision_recall.svg`, the curves.
    """
    known = [item for item in classes if item["id"] != null_id]
    scenes = sorted(per_scene)
    whole = _figures([per_scene[scene] for scene in scenes], known)
    parts = {scene: _figures([per_scene[scene]], known) for scene in scenes}
    evaluation = {
        "overall": whole[0],
        "per_scene": {scene: items for scene, (items, _) in parts.items()},
        "summary": {
            "overall": whole[1],
            "per_scene": {
                scene: {key: value for key, value in summary.items() if key != "curves"}
                for scene, (_, summary) in parts.items()
            },
        },
    }
    files = {
        "eval.md": _markdown(evaluation, null_id),
        PICTURE: _picture(known, [per_scene[scene] for scene in scenes], evaluation),
    }
    return without_nan(evaluation), files


def _figures(counts: Sequence[Mapping[str, Any]], classes: Sequence[Mapping[str, Any]]) -> tuple[list[Json], Json]:
    """Return the items of the classes with their average, and the figures that describe the whole."""
    items, curves = [], {}
    every: list[Matches] = []
    for item in classes:
        own = [scene["classes"][str(item["id"])] for scene in counts]
        matches = [_matches(part) for part in own]
        values, every = precision(matches), [*every, *matches]
        right, wrong, missed = (sum(part["found"][place] for part in own) for place in range(3))
        aps = {"ap50": average(values, iou=0.5), "ap": average(values), "ap75": average(values, iou=0.75)}
        aps |= {f"ap_{size}": average(values, size) for size in SIZES if size != "all"}
        items.append(_item(item, right, wrong, missed, aps))
        curves[item["name"]] = values[0, 0].tolist()
    summary: Json = {f"mean_{name}": mean(item["metrics"][name] for item in items) for name in _AVERAGES}
    right, wrong, missed = (sum(item[key] for item in items) for key in ("true_pos", "false_pos", "false_neg"))
    summary |= _rates(right, wrong, missed)
    summary |= {"labels": right + missed, "boxes": right + wrong}
    for name in ("iou_thresh", "score_thresh"):
        summary[name] = counts[0][name] if counts else math.nan
    summary["best_score_thresh"], summary["best_f1"] = best_score(every)
    summary["curves"] = {"recall": RECALLS.tolist(), "precision": curves}
    return [*items, _average(items)], summary


def _matches(part: Mapping[str, Any]) -> Matches:
    rows = part["boxes"]
    return Matches(
        np.array([row[0] for row in rows], dtype=np.float64),
        np.array([row[1] for row in rows], dtype=np.uint64),
        np.array([row[2] for row in rows], dtype=np.uint64),
        np.array(part["labels"], dtype=np.int64),
    )


def _rates(right: int, wrong: int, missed: int) -> dict[str, float]:
    recall, exactness = ratio(right, right + missed), ratio(right, right + wrong)
    f1 = ratio(2 * exactness * recall, exactness + recall)
    return {"precision": exactness, "recall": recall, "f1": f1}


def _item(item: Mapping[str, Any], right: int, wrong: int, missed: int, aps: Mapping[str, float]) -> Json:
    rates = _rates(right, wrong, missed)
    return {
        "class_id": item["id"],
        "class_name": item["name"],
        "gt_count": right + missed,
        "pred_count": right + wrong,
        "count_error": abs(missed - wrong),
        "true_pos": right,
        "false_pos": wrong,
        "false_neg": missed,
        "metrics": {**rates, "sensitivity": rates["recall"], "specificity": math.nan, **aps},
    }


def _average(items: Sequence[Json]) -> Json:
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
    counted = {key: sum(item[key] for item in items) for key in ("gt_count", "pred_count", "count_error")}
    return {"class_name": "average", "metrics": weighted, **counted}


def _picture(classes: Sequence[Mapping[str, Any]], counts: Sequence[Mapping[str, Any]], evaluation: Json) -> str:
    """Return the curves of all scenes together, with a point on each for the score threshold."""
    summary = evaluation["summary"]["overall"]
    curves = []
    for item, figures in zip(classes, evaluation["overall"][:-1], strict=True):
        own = [_matches(scene["classes"][str(item["id"])]) for scene in counts]
        values = summary["curves"]["precision"][item["name"]]
        point = rates(own, summary["score_thresh"])
        curves.append(Curve(str(item["name"]), str(item["color"]), values, figures["metrics"]["ap50"], point))
    return picture(RECALLS.tolist(), curves, float(IOUS[0]), summary["score_thresh"])


def _markdown(evaluation: Json, null_id: int) -> str:
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


def _sentence(overall: Json, scenes: int) -> str:
    return (
        f"Mean average precision {figure(overall['mean_ap50'])} at an overlap (IoU) of 0.5, "
        f"{figure(overall['mean_ap'])} over 0.5 to 0.95. Of {overall['labels']:,} labelled objects in {scenes} "
        f"{'scene' if scenes == 1 else 'scenes'}, {figure(overall['recall'])} are found; of {overall['boxes']:,} "
        f"boxes, {figure(overall['precision'])} are right: they overlap a label by more than "
        f"{overall['iou_thresh']:g}. Boxes count if their score is at least {overall['score_thresh']:g}."
    ) + _advice(overall)


def _advice(overall: Json) -> str:
    """Return the effect of another threshold; rounded down, so that the box with exactly that score is included."""
    best = overall["best_score_thresh"]
    if math.isnan(best):
        return ""
    return (
        f" F1 would be highest, {figure(overall['best_f1'])}, with `score_thresh` = {math.floor(best * 100) / 100:g}."
    )


def _class_table(items: Sequence[Json]) -> str:
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


def _size_table(items: Sequence[Json]) -> str:
    sizes = [size for size in SIZES if size != "all"]
    rows = [[escaped(item["class_name"]), *(figure(item["metrics"][f"ap_{size}"]) for size in sizes)] for item in items]
    return table(["class", *(f"AP {size}" for size in sizes)], rows)


def _scene_table(figures: Mapping[str, Json]) -> str:
    rows = [
        [escaped(scene), figure(f["mean_ap50"]), figure(f["mean_ap"]), figure(f["precision"]), figure(f["recall"]),
         f"{f['labels']:,}", f"{f['boxes']:,}"]
        for scene, f in sorted(figures.items())
    ]  # fmt: skip
    return table(["scene", "mean AP50", "mean AP", "precision", "recall", "labels", "boxes"], rows)
