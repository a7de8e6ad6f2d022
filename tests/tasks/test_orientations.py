"""Test-time augmentation: orientations and their inverses, means, and boxes that several orientations show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvbuild import tasks
from rvbuild.learn.model_files import ModelInfo
from rvbuild.stages.augmented import Augmented
from rvbuild.tasks.detection.candidates import Detected
from rvbuild.tasks.detection.fuse import fused, turned
from rvbuild.tasks.detection.task import orient
from rvbuild.tasks.orientations import ORIENTATIONS, Orientation

SIDE = 6
D4 = ORIENTATIONS["d4"]
SEGMENTATION, CELLS, BOXES = "semantic_segmentation", "chip_classification", "object_detection"


class Fake:
    """A predictor that calls a function for each batch, and remembers what it got."""

    def __init__(self, task: str, function: Any) -> None:
        normalize: Any = {"kind": "scale", "max": 255}
        self.info = ModelInfo(task, "m", {}, 1, "uint8", ["a"], [{"id": 0, "name": "a"}], 1, SIDE, normalize)
        self.on_cpu = True
        self.function = function
        self.seen: list[tuple[np.ndarray, np.ndarray | None]] = []

    def computing(self) -> Any:
        raise NotImplementedError

    def __call__(self, images: np.ndarray, valid: np.ndarray | None) -> Any:
        self.seen.append((images, valid))
        return self.function(images, valid)


def images(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, 2, SIDE, SIDE)).astype(np.uint8)


def test_an_orientation_and_its_inverse_are_nothing():
    array = np.arange(2 * SIDE * SIDE).reshape(2, SIDE, SIDE)
    for orientation in D4:
        np.testing.assert_array_equal(orientation.inverse(orientation(array)), array)
    assert len({orientation(array).tobytes() for orientation in D4}) == 8
    assert set(ORIENTATIONS["flips"]) < set(D4) and ORIENTATIONS["flips"][0] == D4[0] == Orientation(False, 0)
    flipped = {array.tobytes(), array[:, ::-1].tobytes(), array[..., ::-1].tobytes(), array[:, ::-1, ::-1].tobytes()}
    assert {orientation(array).tobytes() for orientation in ORIENTATIONS["flips"]} == flipped


def test_an_orientation_is_that_of_training_chips():
    box = np.array([[1.0, 0.0, 3.0, 2.0]], dtype=np.float32)
    for orientation in D4:
        image = np.zeros((SIDE, SIDE))
        image[0:2, 1:3] = 1
        (x0, y0, x1, y1) = orient({"boxes": box, "classes": np.zeros(1)}, *orientation, SIDE)["boxes"][0].astype(int)
        expected = np.zeros((SIDE, SIDE))
        expected[y0:y1, x0:x1] = 1
        np.testing.assert_array_equal(orientation(image), expected)
        np.testing.assert_array_equal(turned(turned(box, orientation, SIDE), orientation.inverse, SIDE), box)


@pytest.mark.parametrize("tta", ORIENTATIONS)
def test_a_network_that_turns_with_its_images_predicts_the_same(tta):
    def pixels(batch, valid):
        return np.where(valid, batch, 7).astype(np.float32) / 256

    batch = images()
    valid = np.random.default_rng(1).random(batch.shape) > 0.3
    for task, function in (
        (SEGMENTATION, pixels),
        (CELLS, lambda batch, valid: pixels(batch, valid).sum(axis=(2, 3))),
    ):
        network = Fake(task, function)
        np.testing.assert_array_equal(Augmented(network, tta)(batch, valid), function(batch, valid))
        assert len(network.seen) == len(ORIENTATIONS[tta])
        assert all(given.flags.c_contiguous for pair in network.seen for given in pair)


@pytest.mark.parametrize("tta", ORIENTATIONS)
def test_the_mean_of_a_network_that_sees_what_is_up(tta):
    weights = np.random.default_rng(2).random((SIDE, SIDE))

    def pixels(batch, valid):
        assert valid is None
        return (batch * weights).astype(np.float32)

    batch, expected = images(), np.zeros((3, 2, SIDE, SIDE))
    for mirror, turns in ORIENTATIONS[tta]:
        turned_batch = np.rot90(batch[..., ::-1] if mirror else batch, turns, axes=(2, 3))
        back = np.rot90(turned_batch * weights, -turns, axes=(2, 3))
        expected += (back[..., ::-1] if mirror else back) / len(ORIENTATIONS[tta])
    given = Augmented(Fake(SEGMENTATION, pixels), tta)(batch, None)
    assert given.dtype == np.float32 and given.shape == batch.shape
    np.testing.assert_allclose(given, expected, rtol=1e-6)
    assert np.abs(given - pixels(batch, None)).max() > 1
    chips = Augmented(Fake(CELLS, lambda batch, valid: pixels(batch, valid).sum(axis=(2, 3))), tta)(batch, None)
    np.testing.assert_allclose(chips, np.mean([
        (np.rot90(batch[..., ::-1] if mirror else batch, turns, axes=(2, 3)) * weights).sum(axis=(2, 3))
        for mirror, turns in ORIENTATIONS[tta]
    ], axis=0), rtol=1e-5)  # fmt: skip


def chip(boxes: Any, scores: Any, outputs: Any) -> Detected:
    return Detected(
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(outputs, dtype=np.int64),
    )


def seen_in(orientation: Orientation, boxes: Detected) -> Detected:
    """Return boxes as a detector finds them that turns with its images."""
    return boxes._replace(boxes=turned(boxes.boxes, orientation, SIDE).astype(np.float32))


@given(
    st.lists(
        st.tuples(*[st.integers(0, 40)] * 2, *[st.integers(4, 20)] * 2, st.integers(1, 100), st.integers(0, 1)),
        max_size=8,
        unique_by=lambda item: item[4],
    )
)
def test_boxes_of_a_detector_that_turns_with_its_images_stay(items):
    rows = sorted(items, key=lambda item: -item[4])
    boxes = [[x / 10, y / 10, (x + w) / 10, (y + h) / 10] for x, y, w, h, _, _ in rows]
    alone = chip(boxes, [row[4] / 100 for row in rows], [row[5] for row in rows])
    joined = fused([(orientation, seen_in(orientation, alone)) for orientation in D4], SIDE)
    np.testing.assert_array_equal(joined.outputs, alone.outputs)
    np.testing.assert_allclose(joined.scores, alone.scores, rtol=1e-6)
    np.testing.assert_allclose(joined.boxes, alone.boxes, atol=1e-5)
    assert [value.dtype for value in joined] == [np.float32, np.float32, np.int64]


def test_boxes_are_joined_by_their_scores():
    same, mirrored = ORIENTATIONS["flips"][:2]
    one = chip([[0, 0, 4, 4], [4, 4, 6, 6]], [0.9, 0.5], [0, 0])
    other = seen_in(mirrored, chip([[0, 0, 4, 5], [0, 0, 4, 4.1]], [0.3, 0.8], [0, 1]))
    joined = fused([(same, one), (mirrored, other)], SIDE)
    # The group of both orientations; the class that only one has; the box that only one has.
    np.testing.assert_allclose(joined.scores, [0.6, 0.4, 0.25], rtol=1e-6)
    np.testing.assert_array_equal(joined.outputs, [0, 1, 0])
    np.testing.assert_allclose(joined.boxes, [[0, 0, 4, 4.25], [0, 0, 4, 4.1], [4, 4, 6, 6]], rtol=1e-6)


def test_a_group_has_one_box_of_each_orientation():
    alone = chip([[0, 0, 5, 5], [0, 0, 5, 4]], [0.8, 0.8], [0, 0])
    joined = fused([(orientation, seen_in(orientation, alone)) for orientation in D4], SIDE)
    np.testing.assert_allclose(joined.boxes, alone.boxes, atol=1e-5)


def test_nothing_was_found():
    nothing = chip([], [], [])
    joined = tasks.get(BOXES).averaged([(orientation, [nothing, nothing]) for orientation in D4], SIDE)
    assert [(image.boxes.shape, image.scores.shape, image.outputs.shape) for image in joined] == [
        ((0, 4), (0,), (0,))
    ] * 2
