from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvbuild.tasks.segmentation.report import report

NAMES = ["car", "tree", "null"]
CLASSES = [{"id": i, "name": name, "color": "#000000"} for i, name in enumerate(NAMES)]
NULL = 2

A = [[50, 10, 5], [20, 100, 0], [0, 0, 0]]
B = [[3, 0, 0], [1, 7, 2], [0, 0, 0]]


def evaluate(**scenes: list[list[int]]) -> tuple[dict[str, Any], str]:
    evaluation, files = report(
        {name: {"scene": name, "confusion": matrix} for name, matrix in scenes.items()}, CLASSES, NULL
    )
    return evaluation, files["eval.md"]


def naive_items(matrix: list[list[int]]) -> list[dict[str, Any]]:
    """Raster Vision's `ClassEvaluationItem.to_json` and `compute_avg`, with numpy's NaN for 0 / 0, and IoU."""
    with np.errstate(invalid="ignore", divide="ignore"):
        m = np.array(matrix, dtype=np.float64)
        items = []
        for c, name in enumerate(NAMES):
            tp = m[c, c]
            fp, fn = m[:, c].sum() - tp, m[c, :].sum() - tp
            tn = m.sum() - tp - fp - fn
            recall, precision = tp / (tp + fn), tp / (tp + fp)
            binary = np.array([[tn, fp], [fn, tp]])
            share = binary / binary.sum()
            items.append(
                {
                    "class_id": c,
                    "class_name": name,
                    "gt_count": tp + fn,
                    "pred_count": tp + fp,
                    "count_error": abs(tp + fn - tp - fp),
                    "relative_frequency": (tp + fn) / m.sum(),
                    "metrics": {
                        "recall": recall,
                        "precision": precision,
                        "f1": 2 * (precision * recall) / (precision + recall),
                        "sensitivity": recall,
                        "specificity": tn / (tn + fp),
                        "iou": tp / (tp + fp + fn) if tp + fn else np.nan,
                    },
                    "conf_mat": binary.tolist(),
                    "conf_mat_frac": share.tolist(),
                    "conf_mat_dict": {"TN": tn, "FP": fp, "FN": fn, "TP": tp},
                    "conf_mat_frac_dict": dict(zip(("TN", "FP", "FN", "TP"), share.ravel(), strict=True)),
                }
            )
        weights = np.array([item["gt_count"] for item in items]) / m.sum()
        metrics = {
            key: float(np.nan_to_num(np.array([item["metrics"][key] for item in items]) * weights).sum())
            for key in items[0]["metrics"]
        }
        average: dict[str, Any] = {"class_name": "average", "metrics": metrics}
        for key in ("gt_count", "pred_count", "count_error"):
            average[key] = sum(item[key] for item in items)
        average["conf_mat"], average["conf_mat_frac"] = m.tolist(), (m / m.sum()).tolist()
    return [*items, average]


def assert_same(actual: Any, expected: Any, where: str = "") -> None:
    """Compare JSON data: the same keys, numbers to 1e-12, NaN as null."""
    if isinstance(expected, dict):
        assert set(actual) == set(expected), where
        for key in expected:
            assert_same(actual[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(actual) == len(expected), where
        for i, (item, expected_item) in enumerate(zip(actual, expected, strict=True)):
            assert_same(item, expected_item, f"{where}[{i}]")
    elif isinstance(expected, float):
        if math.isnan(expected):
            assert actual is None, where
        else:
            assert actual == pytest.approx(expected, rel=1e-12, abs=1e-12), where
    else:
        assert actual == expected, where


counts = st.integers(0, 50) | st.just(0) | st.integers(0, 2**40)
matrices = st.lists(st.lists(counts, min_size=3, max_size=3), min_size=3, max_size=3)


@pytest.mark.slow
@settings(deadline=None)
@given(matrices)
def test_items_follow_the_reference(matrix: list[list[int]]) -> None:
    evaluation, _ = evaluate(a=matrix)
    assert_same(evaluation["overall"], naive_items(matrix))
    assert evaluation["per_scene"] == {"a": evaluation["overall"]}
    json.dumps(evaluation, allow_nan=False)


def test_scenes_are_merged_by_their_counts() -> None:
    evaluation, _ = evaluate(b=B, a=A)
    assert_same(evaluation["overall"], naive_items((np.array(A) + np.array(B)).tolist()))
    assert_same(evaluation["per_scene"], {"a": naive_items(A), "b": naive_items(B)})


def test_the_order_of_scenes_does_not_matter() -> None:
    assert evaluate(b=B, a=A) == evaluate(a=A, b=B)


def test_figures_of_a_small_matrix() -> None:
    evaluation, _ = evaluate(a=A)
    car = evaluation["overall"][0]
    assert (car["gt_count"], car["pred_count"], car["count_error"]) == (65, 70, 5)
    assert car["metrics"]["recall"] == 50 / 65
    assert car["metrics"]["precision"] == 50 / 70
    assert car["metrics"]["iou"] == 50 / 85
    assert car["conf_mat"] == [[100, 20], [15, 50]]
    assert evaluation["overall"][-1]["class_name"] == "average"


def test_summary() -> None:
    summary = evaluate(a=A)[0]["summary"]
    overall = summary["overall"]
    assert summary["per_scene"] == {"a": overall}
    assert overall["labelled_px"] == 185
    assert overall["not_predicted_px"] == 5
    assert overall["overall_accuracy"] == 150 / 185
    assert overall["mean_iou"] == pytest.approx((50 / 85 + 100 / 130) / 2)
    chance = (65 * 70 + 120 * 110) / 185**2
    assert overall["kappa"] == pytest.approx((150 / 185 - chance) / (1 - chance))
    without_null = overall["averages_without_null"]
    assert without_null["recall"] == pytest.approx(150 / 185)
    assert without_null["iou"] == pytest.approx((65 * 50 / 85 + 120 * 100 / 130) / 185)
    assert without_null["pred_count"] == 180  # 185 with null
    assert set(without_null) == {
        *("recall", "precision", "f1", "sensitivity", "specificity", "iou"),
        *("gt_count", "pred_count", "count_error"),
    }


def test_a_class_without_labels_is_not_in_the_mean() -> None:
    evaluation, text = evaluate(a=[[8, 2, 0], [0, 0, 0], [0, 0, 0]])
    tree = evaluation["overall"][1]["metrics"]
    assert tree["iou"] is None
    assert tree["recall"] is None
    assert tree["f1"] is None
    assert evaluation["summary"]["overall"]["mean_iou"] == 0.8
    assert evaluation["summary"]["overall"]["averages_without_null"]["recall"] == 0.8
    assert tree["precision"] == 0  # as in sklearn: of what was predicted, nothing is right
    assert "Not shown by any label: tree. It has no recall, and is in no mean." in text
    assert "Not shown" not in evaluate(a=A)[1]


def test_no_labels_at_all() -> None:
    nothing = [[0] * 3] * 3
    evaluation, text = evaluate(a=nothing)
    summary = evaluation["summary"]["overall"]
    assert summary["mean_iou"] is summary["kappa"] is summary["overall_accuracy"] is None
    assert evaluation["overall"][-1]["metrics"] == dict.fromkeys(evaluation["overall"][-1]["metrics"], 0.0)
    assert "Mean IoU –" in text
    # Raster Vision's average is 0 of nothing; the one that people are shown is not known.
    figures = summary["averages_without_null"]
    assert {value for name, value in figures.items() if "count" not in name} == {None}
    (average,) = (line for line in text.splitlines() if "weighted average" in line)
    assert [cell.strip() for cell in average.split("|")[2:-1]] == ["–", "–", "–", "–", "", "0"]
    assert "Not shown by any label: car, tree. They have no recall, and are in no mean." in text


def test_no_scenes() -> None:
    evaluation, files = report({}, CLASSES, NULL)
    assert evaluation["per_scene"] == {}
    assert len(evaluation["overall"]) == 4
    assert "0 scenes" in files["eval.md"]


def test_kappa_of_large_counts_does_not_overflow() -> None:
    big = 2**40
    evaluation, _ = evaluate(a=[[big, 0, 0], [0, big, 0], [0, 0, 0]])
    assert evaluation["summary"]["overall"]["kappa"] == 1


def test_markdown() -> None:
    _, text = evaluate(b=B, a=A)
    lines = text.splitlines()
    assert lines[0] == "# Evaluation"
    assert "over 198 labelled pixels of 2 scenes. 7 of them have no prediction" in lines[2]
    assert "| class                |   IoU |    F1 | precision | recall | share | labelled px |" in lines
    assert "| car                  | 0.596 | 0.746 |     0.716 |  0.779 | 0.343 |          68 |" in lines
    assert "| label |   car |  tree | not predicted |" in lines
    assert [line.split()[1] for line in lines if line.startswith("### ")] == ["a", "b"]
    assert "| a     |    0.679 |    0.811 | 0.607 |         185 |" in lines
    tables = [line for line in lines if line.startswith("|")]
    assert not any("null" in line for line in tables)


def test_markdown_of_awkward_names() -> None:
    classes = [{"id": 0, "name": "a|b", "color": "#000000"}, {"id": 1, "name": "null", "color": "#000000"}]
    _, files = report({"s": {"confusion": [[1, 0], [0, 0]]}}, classes, 1)
    assert "| a\\|b " in files["eval.md"]
