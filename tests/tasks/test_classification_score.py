"""Cells compared with labels, and the metrics: against slow and plain ones."""

import json
import math

import numpy as np
import pytest
from affine import Affine

from rvbuild.errors import DataError
from rvbuild.geo.grid import Grid
from rvbuild.progress import Silent
from rvbuild.tasks.classification.cells import no_cells, write_cells
from rvbuild.tasks.classification.report import average_precision, report, top_k
from rvbuild.tasks.classification.score import score
from rvbuild.tasks.metrics.places import WorstPlaces

CLASSES = [
    {"id": 0, "name": "car", "color": "#ffff00"},
    {"id": 1, "name": "null", "color": "#000000"},
    {"id": 2, "name": "tree", "color": "#00ff00"},
    {"id": 3, "name": "ground", "color": "#ff0000"},
]
NULL = 1


class Truth:
    """Labels from an array of the classes of cells."""

    def __init__(self, ids, cell_px):
        self.ids, self.cell_px = ids, cell_px

    def cell(self, window):
        assert window.height == window.width == self.cell_px
        return int(self.ids[window.row // self.cell_px, window.col // self.cell_px])


class Area:
    """An area of interest that holds the first columns."""

    def contains_centre(self, window):
        return window.col < 14


def scene(folder, seed=0, unpredicted=()):
    """Write predictions of 5 x 4 odd cells; return the file, the scores (5, 4, 3) and the truth."""
    rng = np.random.default_rng(seed)
    cells = no_cells(Grid(33, 25, Affine(0.5, 0, 4e5, 0, -0.5, 5.8e6), None), 7, [0, 2, 3])
    raw = rng.uniform(size=cells.scores.shape).astype(np.float32)
    cells.scores[:] = raw / raw.sum(axis=-1, keepdims=True)
    for place in unpredicted:
        cells.scores[place] = np.nan
    write_cells(folder / f"{seed}.json", cells)
    return folder / f"{seed}.json", cells.scores, rng.choice([0, 2, 3, NULL], size=(5, 4))


def count(path, truth, aoi=None):
    return json.loads(json.dumps(score(path, Truth(truth, 7), aoi, CLASSES, NULL, Silent(), WorstPlaces())))


def test_labelled_cells_are_counted_by_their_place(tmp_path):
    path, scores, truth = scene(tmp_path, unpredicted=[(1, 2), (4, 0)])
    truth[1, 2], truth[4, 0] = 2, NULL
    counts = count(path, truth)
    expected = np.zeros((4, 4), dtype=int)
    for place in np.ndindex(5, 4):
        if truth[place] != NULL:
            known = not np.isnan(scores[place]).any()
            expected[truth[place], [0, 2, 3][scores[place].argmax()] if known else NULL] += 1
    assert counts["confusion"] == expected.tolist()
    assert expected[:, NULL].sum() == 1 and expected[NULL].sum() == 0
    assert len(counts["scores"]) == expected.sum() - 1


def test_perfect_predictions_of_odd_cells_score_one(tmp_path):
    path, scores, _ = scene(tmp_path)
    counts = count(path, np.array([0, 2, 3])[scores.argmax(axis=-1)])
    evaluation, _ = report({"a": counts}, CLASSES, NULL)
    overall = evaluation["summary"]["overall"]
    assert overall["accuracy"] == overall["kappa"] == overall["mean_f1"] == 1
    assert overall["labelled_cells"] == 20 and overall["top_k_accuracy"] == {"1": 1, "2": 1}


def test_cells_count_if_their_centre_is_in_the_area(tmp_path):
    path, _, truth = scene(tmp_path)
    inside = truth[:, :2]
    assert np.sum(count(path, truth, Area())["confusion"]) == np.count_nonzero(inside != NULL)


def test_predictions_for_other_classes(tmp_path):
    path, _, truth = scene(tmp_path)
    with pytest.raises(DataError, match=r"expected a score for each of the classes \[0, 2\], found \[0, 2, 3\]"):
        score(path, Truth(truth, 7), None, CLASSES[:3], NULL, Silent(), WorstPlaces())


def test_the_figures_of_merged_scenes_are_those_of_all_their_cells(tmp_path):
    counts = {}
    for seed in (0, 1):
        path, _, truth = scene(tmp_path, seed, unpredicted=[(0, 0)])
        counts[f"s{seed}"] = count(path, truth)
    evaluation, files = report(counts, CLASSES, NULL)
    text = files["eval.md"]
    whole = {
        "confusion": np.add(*(counts[s]["confusion"] for s in counts)).tolist(),
        "scores": [line for s in counts for line in counts[s]["scores"]],
    }
    single, _ = report({"all": whole}, CLASSES, NULL)
    assert evaluation["overall"] == single["overall"]
    assert evaluation["summary"]["overall"] == single["summary"]["overall"]
    assert "### s0" in text and "not predicted" in text and "top-2" in text


def test_items_are_those_of_raster_vision(tmp_path):
    path, _, truth = scene(tmp_path)
    evaluation, _ = report({"a": count(path, truth)}, CLASSES, NULL)
    *items, average = evaluation["overall"]
    assert [item["class_name"] for item in items] == ["car", "null", "tree", "ground"]
    for item in items:
        assert set(item) == {
            *("class_id", "class_name", "gt_count", "pred_count", "count_error", "relative_frequency", "metrics"),
            *("conf_mat", "conf_mat_frac", "conf_mat_dict", "conf_mat_frac_dict"),
        }
        assert type(item["gt_count"]) is int
    assert average["class_name"] == "average"
    weights = [item["relative_frequency"] for item in items]
    for metric in ("recall", "precision", "f1", "average_precision"):
        terms = [(item["metrics"][metric] or 0) * weight for item, weight in zip(items, weights, strict=True)]
        assert average["metrics"][metric] == pytest.approx(sum(terms))


def slow_average_precision(positive, scores, missed):
    """Go through the thresholds one by one."""
    total, value, before = sum(positive) + missed, 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        taken = [p for p, s in zip(positive, scores, strict=True) if s >= threshold]
        recall = sum(taken) / total
        value += (recall - before) * sum(taken) / len(taken)
        before = recall
    return value


@pytest.mark.parametrize("seed", range(20))
def test_average_precision_against_a_slow_one(seed):
    rng = np.random.default_rng(seed)
    positive = rng.uniform(size=30) < 0.4
    scores = np.round(rng.uniform(size=30), 1 if seed % 2 else 6)
    missed = seed % 3
    precision = average_precision(positive, scores, missed)
    assert precision == pytest.approx(slow_average_precision(positive.tolist(), scores.tolist(), missed), abs=1e-12)


def test_average_precision_at_its_ends():
    yes, no = np.array([True, True]), np.array([False, False])
    assert average_precision(yes, np.array([0.5, 0.5])) == 1
    assert math.isnan(average_precision(no, np.array([0.5, 0.5])))
    assert average_precision(np.zeros(0, dtype=bool), np.zeros(0), 3) == 0
    assert average_precision(np.array([False, True]), np.array([0.9, 0.1])) == 0.5


def test_top_k_counts_equals_by_their_order():
    scores = np.array([[0, 0.2, 0.5, 0.3], [2, 0.4, 0.4, 0.2], [3, 0.1, 0.1, 0.8], [0, 0.1, 0.1, 0.8]])
    assert top_k(scores, [0, 2, 3], 4) == {"1": 1 / 4, "2": 3 / 4}
    assert top_k(scores, [0, 2, 3], 8) == {"1": 1 / 8, "2": 3 / 8}


def test_nothing_labelled(tmp_path):
    path, _, truth = scene(tmp_path)
    evaluation, files = report({"a": count(path, np.full_like(truth, NULL))}, CLASSES, NULL)
    overall = evaluation["summary"]["overall"]
    assert overall["accuracy"] is None and overall["labelled_cells"] == 0
    averages = overall["averages_without_null"]
    assert averages["average_precision"] is averages["f1"] is averages["recall"] is None
    assert "–" in files["eval.md"]
    assert report({}, CLASSES, NULL)[0]["per_scene"] == {}
