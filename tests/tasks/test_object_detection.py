from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rvbuild.learn.chips.geometry import orient
from rvbuild.tasks import get
from rvbuild.tasks.detection import task as task
from rvbuild.tasks.protocol import Task

CLASSES = [
    {"id": 0, "name": "tree", "color": "#00ff00"},
    {"id": 1, "name": "car", "color": "#ff0000"},
    {"id": 2, "name": "null", "color": "#000000"},
]
SIZE = 12


def target(*boxes: tuple[float, float, float, float], classes: list[int] | None = None) -> dict[str, np.ndarray]:
    ids = classes if classes is not None else [0] * len(boxes)
    return {
        "boxes": np.array(boxes, dtype=np.float32).reshape(-1, 4),
        "classes": np.array(ids, dtype=np.uint8),
    }


def equal(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all(
        np.array_equal(first[key], second[key]) and first[key].dtype == second[key].dtype for key in first
    )


def test_it_is_a_task() -> None:
    assert get("object_detection") is task
    asked = {name for name in dir(Task) if callable(getattr(Task, name)) and not name.startswith("_")}
    assert {"orient", "window", "derive"} <= asked
    assert all(callable(getattr(task, name)) for name in asked)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), counts=st.lists(st.integers(0, 4), min_size=1, max_size=5))
def test_targets_come_back_from_a_shard(data: st.DataObject, counts: list[int]) -> None:
    floats = st.floats(0, 100, width=32)
    targets = [
        {
            "boxes": data.draw(arrays.arrays(np.float32, (count, 4), elements=floats)),
            "classes": data.draw(arrays.arrays(np.uint8, count)),
        }
        for count in counts
    ]
    shard = task.pack(targets)
    assert {name: (array.dtype.name, array.ndim) for name, array in shard.items()} == {
        "boxes": ("float32", 2),
        "classes": ("uint8", 1),
        "offsets": ("int64", 1),
    }
    for number, written in enumerate(targets):
        assert equal(task.unpack(shard, number), written)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("turns", range(4))
def test_boxes_turn_as_the_pixels_that_they_hold(mirror: bool, turns: int) -> None:
    boxes = [(1, 2, 4, 9), (0, 0, 3, 2), (5, 3, 12, 4)]
    for box in boxes:
        x0, y0, x1, y1 = box
        picture = np.zeros((SIZE, SIZE), dtype=bool)
        picture[y0:y1, x0:x1] = True
        turned = orient(picture, mirror, turns)
        rows, columns = np.nonzero(turned)
        turned_box = task.orient(target(box), mirror, turns, SIZE)["boxes"]
        assert turned_box.tolist() == [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
        assert turned_box.dtype == np.float32
    assert task.orient(target(), mirror, turns, SIZE)["boxes"].shape == (0, 4)


def test_resize_scales_each_axis() -> None:
    resized = task.resize(target((1, 2, 3, 4)), (4, 8), 16)
    assert resized["boxes"].tolist() == [[2, 8, 6, 16]] and resized["boxes"].dtype == np.float32


def test_mask_drops_boxes_whose_centre_is_not_trained_on() -> None:
    keep = np.zeros((8, 8), dtype=bool)
    keep[:, :4] = True
    masked = task.mask(target((0, 0, 6, 8), (3, 3, 7, 7), (-9, 0, 1, 2), classes=[0, 1, 1]), keep, 2)
    assert masked["boxes"].tolist() == [[0, 0, 6, 8], [-9, 0, 1, 2]] and masked["classes"].tolist() == [0, 1]
    assert task.mask(target(), keep, 2)["boxes"].shape == (0, 4)


def test_boxes_are_counted_and_drawn() -> None:
    boxes = target((1, 1, 5, 4), (2, 2, 3, 3), classes=[1, 0])
    assert task.class_counts(boxes, 3).tolist() == [1, 1, 0]
    assert task.class_counts(target(), 3).tolist() == [0, 0, 0]
    picture = np.full((6, 6, 3), 9, dtype=np.uint8)
    drawn = task.draw(boxes, picture, CLASSES)
    red = (drawn == [255, 0, 0]).all(axis=2)
    assert np.argwhere(red).min(axis=0).tolist() == [1, 1] and np.argwhere(red).max(axis=0).tolist() == [3, 4]
    assert drawn[2, 2].tolist() == [0, 255, 0] and drawn[5, 5].tolist() == [9, 9, 9]
    assert picture.max() == 9


def test_a_batch_has_a_tensor_of_each_chip() -> None:
    batch = task.collate([target((1, 2, 3, 4)), target()])
    assert [tuple(boxes.shape) for boxes in batch["boxes"]] == [(1, 4), (0, 4)]
    assert [classes.tolist() for classes in batch["classes"]] == [[0], []]
