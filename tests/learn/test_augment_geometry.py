"""Crops and scales of chips whose values are their own coordinates: labels, null and boxes go where pixels go."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rvbuild.learn.chips.augment import Augmenter
from rvbuild.learn.hooks import Sample
from rvbuild.stages.train.chips import augmented_ops
from rvbuild.tasks.classification import task as classification
from rvbuild.tasks.detection import task as detection
from rvbuild.tasks.segmentation import task as segmentation
from tests.learn.chipmaker import NULL_ID

SIZE = 24
LINEAR: Any = {"kind": "linear", "low": [0.0, 0.0], "high": [24.0, 24.0]}
ALWAYS = {"crop": {"probability": 1.0}, "scale": {"probability": 1.0, "min": 0.5, "max": 2.0}}


def chip(target: dict[str, np.ndarray], valid: np.ndarray | None = None) -> Sample:
    """Return a chip of two bands: column and row of each pixel's centre."""
    rows, cols = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    return Sample(np.stack([cols, rows]).astype(np.float32), valid, target)


def made(task: Any, name: str, sample: Sample, shown: Any = None) -> list[Sample]:
    augmenter = Augmenter([name], LINEAR, "float32", 2, augmented_ops(task, NULL_ID, shown), ALWAYS)
    return [augmenter(sample, (0, 1, number)) for number in range(40)]


def place(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Return where pixel 0 and each further pixel come from: (column, row) of the origin, and of a step."""
    valid = np.ones(sample.image.shape, dtype=bool) if sample.valid is None else sample.valid
    inside = np.argwhere(valid[0])
    (top, left), (bottom, right) = inside.min(axis=0) + 2, inside.max(axis=0) - 2
    first, last = sample.image[:, top, left].astype(float), sample.image[:, bottom, right].astype(float)
    step = (last - first) / [right - left, bottom - top]
    return first - step * [left + 0.5, top + 0.5], step


@pytest.mark.parametrize("name", ["crop", "scale"])
def test_labels_and_null_follow_the_pixels(name: str) -> None:
    labels = np.random.default_rng(0).choice([0, 2], (SIZE, SIZE)).astype(np.uint8)
    sizes = set()
    for sample in made(segmentation, name, chip({"labels": labels})):
        (col, row), (step, _) = place(sample)
        sizes.add(round(step, 3))
        centres = np.arange(SIZE) + 0.5
        rows, cols = row + step * centres, col + step * centres
        inside = ((rows >= 0) & (rows < SIZE))[:, None] & ((cols >= 0) & (cols < SIZE))[None]
        expected = np.where(
            inside,
            labels[np.clip(rows, 0, SIZE - 1).astype(int)[:, None], np.clip(cols, 0, SIZE - 1).astype(int)[None]],
            NULL_ID,
        )
        # Centres of new pixels on an edge of old ones may belong to either.
        edge = np.abs(rows - np.rint(rows))[:, None] < 1e-3
        edge = edge | (np.abs(cols - np.rint(cols))[None] < 1e-3)
        assert np.array_equal(sample.target["labels"][~edge], expected[~edge])
        valid = np.ones_like(sample.image, bool) if sample.valid is None else sample.valid
        assert not valid[:, ~inside & ~edge].any() and not sample.image[~valid].any()
        assert valid.mean() > inside.mean() - 4 * 2 / SIZE
    assert len(sizes) > 8 and (max(sizes) > 1.5) == (name == "scale") and min(sizes) < 0.6


def test_a_null_pixel_stays_null_and_taints_no_neighbour() -> None:
    valid = np.ones((2, SIZE, SIZE), dtype=bool)
    valid[0, 10:14, 10:14] = False
    sample = chip({"labels": np.zeros((SIZE, SIZE), np.uint8)}, valid)
    sample.image[~valid] = 1e9
    for changed in made(segmentation, "crop", sample):
        rows = np.ones_like(changed.image, bool) if changed.valid is None else changed.valid
        assert changed.image[rows].max() < SIZE and rows[1].all()
        assert changed is sample or not changed.image[~rows].any()


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("name", ["crop", "scale"])
def test_boxes_follow_the_pixels(name: str, clip: bool) -> None:
    boxes = np.array([[1.5, 2, 6, 9.25], [12, 3, 20, 11], [8, 15, 23.5, 22], [-3, 14, 5, 20]], np.float32)
    boxes = np.clip(boxes, 0, SIZE) if clip else boxes
    ids, seen = np.array([0, 2, 0, 2], np.uint8), 0
    for sample in made(detection, name, chip({"boxes": boxes, "classes": ids}), {"ioa_thresh": 0.6, "clip": clip}):
        origin, step = place(sample)
        ends = origin + step * SIZE
        low, high = np.tile(origin, 2), np.tile(ends, 2)
        part = np.clip(boxes, low, high)
        sides = np.maximum(part[:, 2:] - part[:, :2], 0)
        share = sides.prod(axis=1) / (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        if np.abs(share - 0.6).min() < 1e-3:
            continue
        expected = (part if clip else boxes)[share > 0.6]
        assert np.allclose(np.tile(origin, 2) + np.tile(step, 2) * sample.target["boxes"], expected, atol=1e-3)
        assert np.array_equal(sample.target["classes"], ids[share > 0.6])
        seen += len(expected) < len(boxes)
    assert seen > 3


def test_a_chip_keeps_its_class() -> None:
    target = {"classes": np.array(2, np.uint8)}
    assert all(sample.target is target for sample in made(classification, "scale", chip(target)))


def test_a_chip_without_boxes_can_be_cropped() -> None:
    none = {"boxes": np.zeros((0, 4), np.float32), "classes": np.zeros(0, np.uint8)}
    for sample in made(detection, "crop", chip(none), {"ioa_thresh": 0.6, "clip": False}):
        assert sample.target["boxes"].shape == (0, 4) and sample.target["boxes"].dtype == np.float32
