"""What chips say of themselves is checked: nothing of it leads elsewhere or to a traceback."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rvbuild.errors import DataError
from rvbuild.learn.chips.index import check_images, check_labels, read_index

GOOD = {
    "scene": "a",
    "size_px": 8,
    "dtype": "uint8",
    "bands": 3,
    "classes": ["car", "background"],
    "count": 3,
    "shards": [
        {"images": "images-00000.safetensors", "labels": "labels-00000.safetensors", "count": 2},
        {"images": "images-00001.safetensors", "labels": "labels-00001.safetensors", "count": 1},
    ],
    "class_counts": [10, 182],
    "chip_class_counts": [[10, 54], [0, 64], [0, 64]],
}


def index_of(tmp_path, **changes):
    path = tmp_path / "index.json"
    path.write_text(json.dumps({**GOOD, **changes}))
    return read_index(path)


def test_a_good_one(tmp_path):
    assert index_of(tmp_path) == GOOD


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size_px": 0}, "size_px: expected a whole number from 1"),
        ({"size_px": 1 << 20}, "size_px"),
        ({"size_px": True}, "size_px"),
        ({"bands": -1}, "bands"),
        ({"dtype": "O"}, "dtype"),
        ({"dtype": ["uint8"]}, "dtype"),
        ({"count": 1e3}, "count"),
        ({"shards": [{}]}, "shards"),
        ({"shards": [["images", "labels", 3]]}, "shards"),
        ({"shards": {}}, "shards"),
        ({"classes": [1, 2]}, "classes"),
        ({"class_counts": [1]}, "a whole number for each class"),
        ({"class_counts": [1, -1]}, "class_counts"),
        ({"chip_class_counts": [[1, 2], [3]]}, "a whole number for each class"),
        ({"chip_class_counts": 7}, "a whole number for each class"),
    ],
)
def test_one_that_is_wrong(tmp_path, changes, message):
    with pytest.raises(DataError, match=f"index.json: .*{message}.*; build the chips again"):
        index_of(tmp_path, **changes)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "{}", "\xff"])
def test_what_is_no_index(tmp_path, text):
    path = tmp_path / "index.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match="build the chips again"):
        read_index(path)


def test_shards_of_other_shapes(tmp_path):
    path = tmp_path / "shard"
    images = {"images": np.zeros((2, 3, 8, 8), np.uint8), "valid": np.zeros((2, 3, 8, 1), np.uint8)}
    check_images(path, images, (2, 3, 8, 8), "uint8", "a")
    with pytest.raises(DataError, match=r"valid: expected \(2, 3, 8, 1\) uint8, found \(2, 3, 8, 2\)"):
        check_images(path, {**images, "valid": np.zeros((2, 3, 8, 2), np.uint8)}, (2, 3, 8, 8), "uint8", "a")
    with pytest.raises(DataError, match="expected images"):
        check_images(path, {}, (2, 3, 8, 8), "uint8", "a")
    good = {
        "windows": np.zeros((2, 4), np.int64),
        "offsets": np.array([0, 1, 3]),
        "boxes": np.zeros((3, 4), np.float32),
        "classes": np.zeros(3, np.uint8),
    }
    check_labels(path, good, 2, 8, 3)
    for change in (
        {"windows": np.zeros((2, 3), np.int64)},
        {"offsets": np.array([0, 3, 1])},
        {"offsets": np.array([0, 1, 4])},
        {"offsets": np.array([0.0, 1.0, 3.0])},
        {"offsets": np.array([0, -5, -1])},
        {"boxes": np.zeros((3, 5), np.float32)},
        {"labels": np.zeros((2, 8, 9), np.uint8)},
        {"labels": np.zeros((2, 8, 8), np.int64)},
        {"labels": np.zeros((2, 8, 8), np.float32)},
        {"classes": np.zeros(3, np.float32)},
        {"boxes": np.full((3, 4), np.nan, np.float32)},
        {"boxes": np.zeros((3, 4), np.float64)},
    ):
        with pytest.raises(DataError, match="build the chips again"):
            check_labels(path, {**good, **change}, 2, 8, 3)


@pytest.mark.parametrize("value", [3, 255])
def test_class_ids_of_no_class(tmp_path, value):
    path = tmp_path / "labels-00000.safetensors"
    labels, classes = np.zeros((2, 8, 8), np.uint8), np.zeros(2, np.uint8)
    labels[1, 7, 7] = classes[1] = 2
    check_labels(path, {"labels": labels}, 2, 8, 3)
    check_labels(path, {"classes": classes}, 2, 8, 3)
    labels[1, 7, 7] = classes[1] = value
    for name, array in (("labels", labels), ("classes", classes)):
        message = f"labels-00000.safetensors: {name}: expected class ids from 0 to 2, found {value}; build the chips"
        with pytest.raises(DataError, match=message):
            check_labels(path, {name: array}, 2, 8, 3)
