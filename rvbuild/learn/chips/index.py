"""Validation of chip files: the index of a scene, and the shapes of its shards."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, NotRequired, cast

import numpy as np
from typing_extensions import TypedDict

from rvbuild.errors import DataError
from rvbuild.learn.chips.shards import DIGEST_BYTES

INDEX = "index.json"

_MOST_PX = 1 << 16
_REMEDY = "build the chips again"
_DTYPES = {"uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64"}


class ShardEntry(TypedDict):
    """A pair of files of chips."""

    images: str
    labels: str
    count: int


class ChipIndex(TypedDict):
    """The content of a scene's `index.json`, as `read_index` checks it."""

    scene: str
    size_px: int
    dtype: str
    bands: int
    classes: list[str]
    count: int
    shards: list[ShardEntry]
    class_counts: list[int]
    chip_class_counts: NotRequired[list[list[int]]]


def _is_count(value: Any, least: int = 0) -> bool:
    return type(value) is int and least <= value < 1 << 62


def _is_counts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_count, value))


def _is_shards(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(shard, dict)
        and isinstance(shard.get("images"), str)
        and isinstance(shard.get("labels"), str)
        and _is_count(shard.get("count"), 1)
        for shard in value
    )


_ENTRIES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "scene": (lambda value: isinstance(value, str), "a text"),
    "size_px": (lambda value: _is_count(value, 1) and value <= _MOST_PX, f"a whole number from 1 to {_MOST_PX}"),
    "dtype": (lambda value: isinstance(value, str), "a text"),
    "bands": (lambda value: _is_count(value) and value <= _MOST_PX, f"a whole number up to {_MOST_PX}"),
    "classes": (lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value), "a list of names"),
    "count": (_is_count, "a whole number"),
    "shards": (_is_shards, "a list of images, labels and count"),
    "class_counts": (_is_counts, "a list of whole numbers"),
}


def read_index(path: Path) -> ChipIndex:
    """Read the index of a scene's chips.

    Raises
    ------
    DataError
        It is not an index, lacks an entry, or an entry is invalid or contradicts the others.
    """
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {_REMEDY}") from error
    if not isinstance(index, dict):
        _refuse(path, f"expected an object, found {index!r:.80}")
    if missing := sorted(set(_ENTRIES) - set(index)):
        raise DataError(f"{path}: lacks {', '.join(missing)}; {_REMEDY}")
    for name, (accepts, expected) in _ENTRIES.items():
        if not accepts(index[name]):
            _refuse(path, f"{name}: expected {expected}, found {index[name]!r:.80}")
    if index["count"] and index["dtype"] not in _DTYPES:
        _refuse(path, f"dtype: expected the type of pixels, found {index['dtype']!r:.80}")
    each = index.get("chip_class_counts", [])
    rows = [index["class_counts"], *(each if isinstance(each, list) else [None])]
    if not all(_is_counts(row) and len(row) == len(index["classes"]) for row in rows):
        _refuse(path, "class_counts, chip_class_counts: expected a whole number for each class")
    return cast("ChipIndex", index)


def check_images(path: Path, images: Mapping[str, np.ndarray], shape: tuple[int, ...], dtype: str, scene: str) -> None:
    """Raise a DataError unless a shard of images has `shape` (n, C, H, W), and validity of that shape if any."""
    stored = images["images"].shape if "images" in images else None
    if stored != shape or images["images"].dtype != np.dtype(dtype):
        raise DataError(
            f"{path}: expected images {shape} {dtype} for scene {scene}, found {stored}; build its chips again"
        )
    packed = (*shape[:3], -(-shape[3] // 8))
    if "valid" in images and (images["valid"].shape, images["valid"].dtype) != (packed, np.dtype(np.uint8)):
        _refuse(path, f"valid: expected {packed} uint8, found {images['valid'].shape} {images['valid'].dtype}")


def check_labels(path: Path, labels: Mapping[str, np.ndarray], count: int, size_px: int, n_classes: int) -> None:
    """Raise a DataError unless a shard of labels has `count` chips, and only ids of `n_classes` classes."""
    expected: dict[str, tuple[Sequence[int], type[np.generic]]] = {
        "windows": ((count, 4), np.int64),
        "digests": ((count, DIGEST_BYTES), np.uint8),
        "labels": ((count, size_px, size_px), np.uint8),
        "classes": ((count,), np.uint8),
    }
    if "offsets" in labels:
        offsets = labels["offsets"]
        whole = offsets.shape == (count + 1,) and offsets.dtype.kind in "iu"
        boxes = int(offsets[-1]) if whole else 0
        if not whole or offsets[0] != 0 or boxes < 0 or bool((offsets[1:] < offsets[:-1]).any()):
            _refuse(path, f"offsets: expected the places of the boxes of {count} chips")
        expected |= {"boxes": ((boxes, 4), np.float32), "classes": ((boxes,), np.uint8)}
    for name, (shape, dtype) in expected.items():
        if name not in labels:
            continue
        array = labels[name]
        if array.shape != tuple(shape) or array.dtype != dtype:
            wanted = f"{tuple(shape)} {np.dtype(dtype)} for {count} chips"
            _refuse(path, f"{name}: expected {wanted}, found {array.shape} {array.dtype}")
        if name in ("labels", "classes") and array.size and (largest := int(array.max())) >= n_classes:
            _refuse(path, f"{name}: expected class ids from 0 to {n_classes - 1}, found {largest}")
        if name == "boxes" and not np.isfinite(array).all():
            _refuse(path, "boxes: expected coordinates in pixels, found some that are not finite")


def _refuse(path: Path, problem: str) -> NoReturn:
    raise DataError(f"{path}: {problem}; {_REMEDY}")
