"""The average precision against faster-coco-eval, without a limit of boxes in an image."""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rvbuild.tasks.metrics.average_precision import (
    IOUS,
    RECALLS,
    SIZES,
    Matches,
    average,
    best_score,
    match,
    precision,
    rates,
)

Image = tuple[NDArray, NDArray, NDArray]
"""Boxes, scores and labels of one class."""


def oracle(images: list[Image]) -> NDArray:
    """Return what faster-coco-eval says of one class: precision (A, T, R), NaN where no label counts."""
    entries, annotations, results = [], [], []
    for number, (boxes, scores, labels) in enumerate(images, start=1):
        entries.append({"id": number, "file_name": str(number), "height": 10_000, "width": 10_000})
        for x0, y0, x1, y1 in labels.tolist():
            place = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": 1, **place})
        for (x0, y0, x1, y1), score in zip(boxes.tolist(), scores.tolist(), strict=True):
            results.append({"image_id": number, "category_id": 1, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score})
    truth = COCO({"images": entries, "annotations": annotations, "categories": [{"id": 1, "name": "x"}]})
    evaluation = COCOeval_faster(truth, truth.loadRes(results), "bbox", print_function=lambda *_: None)
    evaluation.params.maxDets = [1, 10, 1_000_000]
    evaluation.evaluate()
    evaluation.accumulate()
    values = np.moveaxis(evaluation.eval["precision"][:, :, 0, :, 2], 2, 0)
    return np.where(values < 0, np.nan, values)


def images(seed: int, count: int, labels: int, boxes: int, *, noise: float = 4.0, whole: bool = False) -> list[Image]:
    """Return images with boxes around labels, of all sizes; whole numbers give many ties."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        corners = rng.uniform(0, 500, (labels, 2))
        truth = np.concatenate([corners, corners + rng.uniform(4, 140, (labels, 2))], axis=1).round(0 if whole else 3)
        near = truth[rng.integers(0, max(1, labels), boxes)] if labels else rng.uniform(0, 99, (boxes, 4))
        predicted = near + rng.normal(0, noise, (boxes, 4)).round(0 if whole else 3)
        predicted[:, 2:] = np.maximum(predicted[:, 2:], predicted[:, :2] + 1)
        made.append((predicted, rng.uniform(size=boxes).round(2), truth))
    return made


def compare(cases: list[Image]) -> NDArray:
    mine, theirs = precision([match(*case) for case in cases]), oracle(cases)
    assert mine.shape == (len(SIZES), len(IOUS), len(RECALLS))
    assert (np.isnan(mine) == np.isnan(theirs)).all()
    assert np.nanmax(np.abs(mine - theirs), initial=0) < 1e-9
    return mine


@pytest.mark.parametrize("seed", range(3))
def test_equals_faster_coco_eval_on_random_boxes(seed: int) -> None:
    result = compare(images(seed, 4, 30, 120))
    assert 0.2 < average(result, iou=0.5) < 1 and average(result) < average(result, iou=0.5)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), labels=st.integers(1, 12), boxes=st.integers(1, 20))
def test_equals_faster_coco_eval_on_ties(seed: int, labels: int, boxes: int) -> None:
    compare(images(seed, 2, labels, boxes, noise=2.0, whole=True))


def read_tree_crowns() -> list[NDArray]:
    """Return the boxes of three real images, if they are there."""
    crowns = []
    folder = Path(__file__).parents[2] / "data" / "yellowstone"
    for path in sorted(folder.glob("2019_YELL_*.xml")):
        corners = ElementTree.parse(path).getroot().iterfind("object/bndbox")
        crowns.append(
            np.array([[float(box.findtext(k, "")) for k in ("xmin", "ymin", "xmax", "ymax")] for box in corners])
        )
    for path in sorted(folder.glob("*.csv")):
        with path.open() as file:
            rows = csv.DictReader(file)
            crowns.append(np.array([[float(row[k]) for k in ("xmin", "ymin", "xmax", "ymax")] for row in rows]))
    return crowns


def test_equals_faster_coco_eval_on_real_boxes() -> None:
    crowns = read_tree_crowns()
    if not crowns:
        pytest.skip("the imagery of the examples is not there; fetch it with make data")
    rng = np.random.default_rng(1)
    cases = []
    for labels in crowns:
        seen = labels[rng.uniform(size=len(labels)) < 0.8]
        boxes = np.concatenate([seen + rng.normal(0, 3, seen.shape), seen[::3] + rng.normal(0, 9, seen[::3].shape)])
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        cases.append((boxes, rng.uniform(size=len(boxes)), labels))
    result = compare(cases)
    assert sum(len(labels) for labels in crowns) > 800
    assert average(result, "large") == average(result, "large") and average(result, iou=0.5) > 0.5


def test_labels_that_do_not_count_are_neither_hits_nor_errors() -> None:
    labels = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], dtype=float)
    boxes, scores = labels.copy(), np.array([0.9, 0.8, 0.7])
    ignored = np.array([False, True, False])
    matches = match(boxes, scores, labels, ignored)
    assert matches.labels[0] == 2
    assert average(precision([matches])) == 1
    # A second box on such a label is an error, as on any other.
    twice = match(np.concatenate([boxes, labels[1:2]]), np.array([0.9, 0.8, 0.7, 0.85]), labels, ignored)
    assert average(precision([twice])) < 1


def test_scenes_add_up() -> None:
    cases = images(5, 3, 8, 20)
    parts = [match(*case) for case in cases]
    shifted = [(b + 1000 * n, s, t + 1000 * n) for n, (b, s, t) in enumerate(cases)]
    boxes, scores, labels = (np.concatenate(part) for part in zip(*shifted, strict=True))
    assert np.allclose(precision(parts), precision([match(boxes, scores, labels)]), equal_nan=True)


def test_without_labels_or_boxes() -> None:
    none = np.empty((0, 4))
    assert np.isnan(precision([])).all()
    assert np.isnan(precision([match(np.array([[0, 0, 5, 5.0]]), np.array([0.5]), none)])).all()
    missed = precision([match(none, np.empty(0), np.array([[0, 0, 5, 5.0]]))])
    assert average(missed) == 0 and average(missed, "small") == 0 and np.isnan(average(missed, "large"))
    assert isinstance(match(none, np.empty(0), none), Matches)


@pytest.mark.parametrize("seed", range(3))
def test_the_best_threshold_is_the_best_of_all(seed: int) -> None:
    cases = images(seed, 3, 20, 60, noise=6, whole=seed == 1)
    parts = [match(*case) for case in cases]
    every = np.unique(np.concatenate([part.scores for part in parts]))
    pairs = [rates(parts, score) for score in every]
    f1 = [2 * r * p / (r + p) if r + p else 0 for r, p in pairs]
    score, best = best_score(parts)
    assert best == pytest.approx(max(f1)) and f1[every.tolist().index(score)] == pytest.approx(best)
    # Recall as the labels that boxes of that score and above find, by the definition.
    shown = [(boxes[scores >= score], scores[scores >= score], labels) for boxes, scores, labels in cases]
    hits = sum(int((match(*case).hits & np.uint64(1)).sum()) for case in shown)
    assert rates(parts, score)[0] == hits / 60
    assert rates(parts, score)[1] == hits / sum(len(case[0]) for case in shown)


def test_the_best_threshold_of_nothing() -> None:
    none = np.empty((0, 4))
    assert np.isnan(best_score([])).all() and np.isnan(rates([], 0.5)).all()
    assert np.isnan(best_score([match(none, np.empty(0), none)])).all()
    missed = match(np.array([[0.0, 0, 9, 9]]), np.array([0.5]), np.array([[50.0, 50, 60, 60]]))
    assert np.isnan(best_score([missed])).all() and rates([missed], 0.4) == (0, 0)
    assert rates([missed], 0.6)[0] == 0 and np.isnan(rates([missed], 0.6)[1])
