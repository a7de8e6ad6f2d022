from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from affine import Affine

from rvbuild.geo.area.aoi import Aoi
from rvbuild.geo.grid import Grid
from rvbuild.geo.labels.boxes import BoxLabels
from rvbuild.progress import Silent
from rvbuild.tasks.detection import task as task
from rvbuild.tasks.detection.boxes import Detections, write_detections
from rvbuild.tasks.detection.report import report
from rvbuild.tasks.detection.score import compare, score
from rvbuild.tasks.metrics.places import WorstPlaces

CLASSES = [
    {"id": 0, "name": "tree", "color": "#00ff00"},
    {"id": 1, "name": "null", "color": "#000000"},
    {"id": 2, "name": "car", "color": "#ff0000"},
]
GRID = Grid(100, 100, Affine.identity(), None)
Rows = list[tuple[float, ...]]


def counts(folder: Path, boxes: Rows, labels: Rows, aoi: Any = None, iou_thresh: float = 0.5) -> dict[str, Any]:
    """Score boxes (x0, y0, x1, y1, class, score) against labels (x0, y0, x1, y1, class)."""
    table, wanted = np.array(boxes, dtype=float).reshape(-1, 6), np.array(labels, dtype=float).reshape(-1, 5)
    order = np.argsort(-table[:, 5], kind="stable")
    table = table[order]
    path = folder / "detections.json"
    write_detections(path, Detections(GRID, 0.5, table[:, :4], table[:, 4].astype(np.int64), table[:, 5]))
    source = BoxLabels(wanted[:, :4], wanted[:, 4].astype(np.int64), GRID)
    assert task.scene_grid(path) == GRID
    return score(path, source, aoi, CLASSES, 1, Silent(), {"iou_thresh": iou_thresh}, WorstPlaces())


def test_matches_are_counted_by_class(tmp_path: Path) -> None:
    boxes = [(0, 0, 10, 10, 0, 0.9), (50, 50, 60, 60, 0, 0.8), (20, 0, 30, 10, 2, 0.7), (20, 0, 30, 10, 0, 0.4)]
    result = counts(tmp_path, boxes, [(0, 0, 10, 12, 0), (20, 0, 30, 10, 2), (70, 70, 80, 80, 2)])
    assert result["classes"]["0"]["found"] == [1, 1, 0]
    assert result["classes"]["2"]["found"] == [1, 0, 1]
    # Those below the score threshold count for the average precision alone.
    assert [row[0] for row in result["classes"]["0"]["boxes"]] == [0.9, 0.8, 0.4]
    assert result["classes"]["0"]["labels"] == [1, 1, 0, 0]


def test_no_box_of_another_class_steals_a_match(tmp_path: Path) -> None:
    # Raster Vision matches whatever the classes: the car's box, which is the better one, would take the tree.
    boxes = [(0, 0, 10, 9, 0, 0.9), (0, 0, 10, 10, 2, 0.95)]
    result = counts(tmp_path, boxes, [(0, 0, 10, 10, 0)])
    assert result["classes"]["0"]["found"] == [1, 0, 0]
    assert result["classes"]["2"]["found"] == [0, 1, 0]


@pytest.mark.parametrize(
    ("boxes", "labels", "thresh", "expected"),
    [
        # Above the threshold, not at it.
        ([(0, 0, 10, 5)], [(0, 0, 10, 10)], 0.5, [0, 1, 1]),
        ([(0, 0, 10, 5.1)], [(0, 0, 10, 10)], 0.5, [1, 0, 0]),
        ([(0, 0, 10, 5)], [(0, 0, 10, 10)], 0.4, [1, 0, 0]),
        # Two boxes of one label: one is right.
        ([(0, 0, 10, 9), (0, 0, 10, 10)], [(0, 0, 10, 10)], 0.5, [1, 1, 0]),
        # Both labels have their best box in the same, and the second gets no other: there is no second chance.
        ([(0, 0, 10, 10), (0, 0, 10, 14)], [(0, 0, 10, 10), (0, 0, 10, 11)], 0.5, [1, 1, 1]),
        ([], [(0, 0, 10, 10)], 0.5, [0, 0, 1]),
        ([(0, 0, 10, 10)], [], 0.5, [0, 1, 0]),
        ([], [], 0.5, [0, 0, 0]),
    ],
)
def test_the_matching_of_raster_vision(boxes: Rows, labels: Rows, thresh: float, expected: list[int]) -> None:
    predicted, labelled = (np.array(rows, dtype=float).reshape(-1, 4) for rows in (boxes, labels))
    masks = compare(predicted, labelled, np.zeros(len(labelled), dtype=bool), thresh)
    assert [int(mask.sum()) for mask in masks] == expected


def test_labels_that_do_not_count(tmp_path: Path) -> None:
    import shapely

    aoi = Aoi([shapely.box(0, 0, 50, 100)], GRID)
    # Its centre outside; half of it beyond the image; and one that counts.
    labels = [(45, 0, 57, 10, 0), (-10, 50, 10, 60, 0), (20, 20, 30, 30, 0)]
    boxes = [(44, 0, 55.9, 10, 0, 0.9), (0, 50, 10, 60, 0, 0.8), (20, 20, 30, 30, 0, 0.7), (5, 80, 9, 90, 0, 0.6)]
    result = counts(tmp_path, boxes, labels, aoi)
    assert result["classes"]["0"]["found"] == [1, 1, 0]
    assert result["classes"]["0"]["labels"][0] == 1
    data, _ = report({"a": result}, CLASSES, 1)
    assert data["overall"][0]["metrics"]["ap50"] == pytest.approx(1)


def test_the_schema_is_raster_visions_with_average_precision(tmp_path: Path) -> None:
    boxes = [(0, 0, 10, 10, 0, 0.9), (50, 50, 60, 60, 0, 0.8), (20, 0, 30, 10, 0, 0.7)]
    first = counts(tmp_path, boxes, [(0, 0, 10, 10, 0), (20, 0, 30, 10, 0), (70, 70, 80, 80, 0), (70, 0, 80, 9, 2)])
    second = counts(tmp_path, [], [])
    data, files = report({"b": second, "a": first}, CLASSES, 1)
    text = files["eval.md"]
    tree, car, average = data["overall"]
    assert set(tree) == {
        *(
            "class_id",
            "class_name",
            "gt_count",
            "pred_count",
            "count_error",
            "true_pos",
            "false_pos",
            "false_neg",
            "metrics",
        )
    }
    assert (tree["class_id"], tree["class_name"], tree["gt_count"], tree["pred_count"]) == (0, "tree", 3, 3)
    assert (tree["true_pos"], tree["false_pos"], tree["false_neg"], tree["count_error"]) == (2, 1, 1, 0)
    assert tree["metrics"]["recall"] == tree["metrics"]["sensitivity"] == pytest.approx(2 / 3)
    assert tree["metrics"]["specificity"] is None and car["metrics"]["precision"] is None
    assert set(average) == {"class_name", "metrics", "gt_count", "pred_count", "count_error"}
    # Weighted by labels; what is not known counts as 0.
    assert average["metrics"]["precision"] == pytest.approx(2 / 3 * 3 / 4)
    assert average["metrics"]["specificity"] == 0
    # The first of three is right, the second wrong, the third right, and one label is missed: recalls 1/3 and 2/3.
    expected = (34 * 1 + 33 * 2 / 3) / 101
    assert tree["metrics"]["ap50"] == tree["metrics"]["ap"] == pytest.approx(expected)
    assert tree["metrics"]["ap_small"] == pytest.approx(expected) and tree["metrics"]["ap_large"] is None
    assert car["metrics"]["ap50"] == 0
    summary = data["summary"]
    assert summary["overall"]["mean_ap50"] == pytest.approx(expected / 2)
    assert (summary["overall"]["labels"], summary["overall"]["boxes"]) == (4, 3)
    curve = summary["overall"]["curves"]["precision"]["tree"]
    assert len(curve) == len(summary["overall"]["curves"]["recall"]) == 101
    assert curve[0] == pytest.approx(1) and curve[-1] == 0
    assert "curves" not in summary["per_scene"]["a"] and summary["per_scene"]["b"]["mean_ap50"] is None
    assert list(data["per_scene"]) == ["a", "b"]
    for word in ("# Evaluation", "## Classes", "| tree ", "**weighted average**", "AP small", "### b"):
        assert word in text


def test_what_no_label_shows_is_in_no_average(tmp_path: Path) -> None:
    # Trees are small, cars medium; each class is found, and there are more cars.
    trees, cars = [(0, 0, 10, 10, 0)], [(0, 50, 40, 90, 2), (50, 50, 90, 90, 2)]
    part = counts(tmp_path, [(*row, 0.9) for row in trees + cars], trees + cars)
    data, _ = report({"a": part}, CLASSES, 1)
    averages = data["overall"][-1]["metrics"]
    assert [averages[name] for name in ("ap_small", "ap_medium", "ap50")] == pytest.approx([1, 1, 1])
    assert averages["ap_large"] is None
    # Boxes of a class without labels are wrong, and it has no average precision.
    data, files = report({"a": counts(tmp_path, [(0, 0, 10, 10, 0, 0.9), (0, 50, 40, 90, 2, 0.9)], trees)}, CLASSES, 1)
    car, average = data["overall"][1:]
    assert (car["metrics"]["precision"], car["metrics"]["recall"], car["metrics"]["ap50"]) == (0, None, None)
    assert average["metrics"]["ap50"] == data["summary"]["overall"]["mean_ap50"] == pytest.approx(1)
    assert "Not shown by any label: car. It has no recall, and is in no mean." in files["eval.md"]
    # Of nothing, nothing is known.
    data, files = report({"a": counts(tmp_path, [], [])}, CLASSES, 1)
    assert data["overall"][-1]["metrics"]["ap50"] is None
    assert "0.000" not in files["eval.md"]


def test_curves_are_drawn_with_a_point_where_boxes_are_shown(tmp_path: Path) -> None:
    boxes = [(0, 0, 10, 10, 0, 0.9), (50, 50, 60, 60, 0, 0.8), (20, 0, 30, 10, 0, 0.4)]
    labels = [(0, 0, 10, 10, 0), (20, 0, 30, 10, 0), (70, 70, 80, 80, 0)]
    classes = [{**CLASSES[0], "name": "tree <of> a name that is long & odd"}, *CLASSES[1:]]
    part = counts(tmp_path, boxes, labels)
    data, files = report({"a": part, "b": part}, classes, 1)
    root = ElementTree.fromstring(files["precision_recall.svg"])
    assert "![Precision and recall](precision_recall.svg)" in files["eval.md"]
    svg = "{http://www.w3.org/2000/svg}"
    (point,) = root.iter(f"{svg}circle")
    # Of three labels one is found by two boxes that are shown, in both scenes.
    assert (float(point.get("cx", "")), float(point.get("cy", ""))) == pytest.approx((56 + 360 / 3, 40 + 360 / 2))
    assert [e.text for e in root.iter(f"{svg}title")].count(classes[0]["name"]) == 3
    curve = next(root.iter(f"{svg}polyline")).get("points", "").split()
    assert curve[0] == "56.0,40.0" and len(curve) == 67  # recalls up to two thirds
    words = ["".join(e.itertext()) for e in root.iter(f"{svg}text")]
    assert "average precision; points: score from 0.5" in words and "carcar: –" in words
    summary = data["summary"]["overall"]
    assert summary["score_thresh"] == 0.5 and summary["f1"] == pytest.approx(0.4)
    assert summary["best_score_thresh"] == 0.4 and summary["best_f1"] == pytest.approx(2 / 3)
    assert "F1 would be highest, 0.667, with `score_thresh` = 0.4." in files["eval.md"]


def test_scenes_add_up(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts = {}
    for number in range(3):
        corners = rng.uniform(0, 80, (12, 2))
        labels = [(x, y, x + 9, y + 9, 0) for x, y in corners]
        boxes = [(x + 1, y, x + rng.uniform(8, 12), y + 9, 0, rng.uniform()) for x, y in corners[:9]]
        parts[f"s{number}"] = counts(tmp_path, boxes, labels)
    data, _ = report(parts, CLASSES, 1)
    for key in ("true_pos", "false_pos", "false_neg", "gt_count"):
        assert data["overall"][0][key] == sum(items[0][key] for items in data["per_scene"].values())
    assert report(dict(reversed(parts.items())), CLASSES, 1)[0] == data


def test_no_scenes() -> None:
    data, files = report({}, CLASSES, 1)
    text = files["eval.md"]
    assert data["summary"]["overall"]["best_score_thresh"] is None and "highest" not in files["eval.md"]
    ElementTree.fromstring(files["precision_recall.svg"])
    assert data["overall"][0]["gt_count"] == 0 and "0 labelled objects" in text
