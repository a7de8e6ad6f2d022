from __future__ import annotations

import numpy as np
import pytest

from rvbuild.tasks.segmentation.target import draw, mask, resize
from tests.stages.sample_scenes import CLASSES, NULL


def test_mask_hides_labels() -> None:
    labels = np.array([[0, 1], [1, 0]], dtype=np.uint8)
    keep = np.array([[True, False], [True, True]])
    masked = mask({"labels": labels}, keep, NULL)["labels"]
    assert masked.tolist() == [[0, NULL], [1, 0]]
    assert masked.dtype == np.uint8
    assert labels[0, 1] == 1


def test_resize_doubles_and_halves() -> None:
    labels = np.arange(16, dtype=np.uint8).reshape(4, 4)
    assert resize({"labels": labels[:2, :2]}, (2, 2), 4)["labels"].tolist() == [[0, 0, 1, 1]] * 2 + [[4, 4, 5, 5]] * 2
    assert resize({"labels": labels}, labels.shape, 2)["labels"].tolist() == [[5, 7], [13, 15]]
    assert (resize({"labels": labels}, labels.shape, 4)["labels"] == labels).all()


@pytest.mark.parametrize(("old", "new"), [(7, 5), (5, 7), (300, 211), (1, 9), (9, 1)])
def test_resize_takes_the_pixel_at_the_centre(old: int, new: int) -> None:
    labels = np.arange(old, dtype=np.uint8).repeat(old).reshape(old, old)
    resized = resize({"labels": labels}, labels.shape, new)["labels"]
    assert resized.shape == (new, new)
    for i in range(new):
        assert resized[i, 0] == labels[int((i + 0.5) * old / new), 0]


def test_draw_has_the_colours_of_the_classes() -> None:
    picture = draw({"labels": np.array([[0, 1, NULL]], dtype=np.uint8)}, np.zeros((1, 3, 3), dtype=np.uint8), CLASSES)
    assert picture.tolist() == [[[255, 255, 0], [0, 255, 0], [0, 0, 0]]]
