from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torchvision.ops import batched_nms, box_iou
from torchvision.ops import nms as torch_nms

from rvbuild.geo.vector.boxes import BoxTree, areas, clipped, iou, nms, overlapping, shared
from rvbuild.geo.windows import Window


def random_boxes(count: int, seed: int, spread: float = 100.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return boxes, scores and classes, several boxes around each of some objects."""
    rng = np.random.default_rng(seed)
    objects = rng.uniform(0, spread, (max(1, count // 4), 2))
    objects = np.concatenate([objects, objects + rng.uniform(4, 30, objects.shape)], axis=1)
    boxes = objects[rng.integers(0, len(objects), count)] + rng.normal(0, 2, (count, 4))
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 0.5)
    return boxes.astype(np.float32), rng.uniform(size=count).astype(np.float32), rng.integers(0, 3, count)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("thresh", [0.0, 0.3, 0.5, 0.8])
def test_nms_keeps_what_torchvision_keeps(seed: int, thresh: float) -> None:
    boxes, scores, classes = random_boxes(600, seed)
    kept = nms(boxes, scores, classes, thresh)
    tensors = torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(classes)
    assert kept.tolist() == batched_nms(*tensors, thresh).tolist()
    assert 0 < len(kept) < 600


def test_many_boxes_are_no_trouble() -> None:
    # Raster Vision compares each box that stays with all others: half a second for 3000, minutes for these.
    boxes, scores, _ = random_boxes(60_000, 0, spread=7000.0)
    began = time.process_time()
    kept = nms(boxes, scores, np.zeros(len(boxes), dtype=np.int64), 0.5)
    assert time.process_time() - began < 3
    assert 15_000 < len(kept) < 60_000


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    corners=arrays.arrays(np.float32, st.tuples(st.integers(0, 25), st.just(2)), elements=st.integers(0, 12)),
    thresh=st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 0.75]),
)
def test_nms_equals_torchvision_on_ties_and_touching_boxes(
    data: st.DataObject, corners: np.ndarray, thresh: float
) -> None:
    sides = data.draw(arrays.arrays(np.float32, corners.shape, elements=st.integers(1, 6)))
    boxes = np.concatenate([corners, corners + sides], axis=1)
    scores = data.draw(arrays.arrays(np.float32, len(boxes), elements=st.sampled_from([0.25, 0.5, 0.75])))
    kept = nms(boxes, scores, np.zeros(len(boxes), dtype=np.int64), thresh)
    assert kept.tolist() == torch_nms(torch.from_numpy(boxes), torch.from_numpy(scores), thresh).tolist()


def test_classes_do_not_suppress_each_other() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [1, 0, 10, 10]], dtype=np.float32)
    scores = np.array([0.9, 0.8, 0.7], dtype=np.float32)
    assert nms(boxes, scores, np.array([0, 1, 1]), 0.5).tolist() == [0, 1]


def test_a_suppressed_box_suppresses_none() -> None:
    boxes = np.array([[0, 0, 10, 1], [4, 0, 14, 1], [8, 0, 18, 1]], dtype=np.float64)
    assert nms(boxes, np.array([0.9, 0.8, 0.7]), np.zeros(3, dtype=int), 0.4).tolist() == [0, 2]


def test_no_boxes() -> None:
    none = np.empty((0, 4))
    assert nms(none, np.empty(0), np.empty(0, dtype=int), 0.5).tolist() == []
    assert [part.tolist() for part in overlapping(none, none, 0.5)] == [[], [], []]
    assert BoxTree(none).touching(Window(0, 0, 5, 5)).tolist() == []


def test_overlapping_pairs_are_those_of_the_matrix() -> None:
    first, second = random_boxes(80, 1)[0], random_boxes(70, 2)[0]
    mine, theirs, values = overlapping(first, second, 0.2)
    matrix = box_iou(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    assert np.argwhere(matrix > 0.2).tolist() == np.stack([mine, theirs], axis=1).tolist()
    assert np.allclose(matrix[mine, theirs], values)


def test_areas_and_parts() -> None:
    boxes = np.array([[0.5, 1, 3, 2], [-4, -4, -2, -2], [2, 0, 9, 9]])
    assert areas(boxes).tolist() == [2.5, 4, 63]
    assert clipped(boxes, Window(1, 1, 4, 4)).tolist() == [[1, 1, 3, 2], [1, 1, -2, -2], [2, 1, 5, 5]]
    assert shared(boxes, boxes[[2, 0, 2]]).tolist() == [1, 0, 63]
    assert iou(np.zeros((1, 4)), np.zeros((1, 4))).tolist() == [0]
