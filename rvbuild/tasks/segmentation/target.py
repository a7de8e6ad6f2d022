"""Operations on segmentation targets in the chip stage: mask pixels, resample, draw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from rvbuild.geo.classes import Classes
from rvbuild.geo.write.picture import Picture, colourize
from rvbuild.learn.chips.geometry import padded

Target = dict[str, npt.NDArray[Any]]


def mask(target: Mapping[str, npt.NDArray[Any]], keep: npt.NDArray[np.bool_], null_id: int) -> Target:
    """Return a target with null labels outside `keep`.

    Parameters
    ----------
    target
        `{"labels": (H, W) uint8 class ids}`.
    keep
        (H, W) bool: the pixels that may be trained on.
    null_id
        The id of the null class.
    """
    return {"labels": np.where(keep, target["labels"], np.uint8(null_id))}


def resize(target: Mapping[str, npt.NDArray[Any]], shape: tuple[int, int], size_px: int) -> Target:
    """Return a target whose labels are `size_px` square: the class at the centre of each new pixel."""
    labels = target["labels"]
    rows, cols = (_nearest(length, size_px) for length in labels.shape)
    return {"labels": np.ascontiguousarray(labels[rows[:, None], cols[None, :]])}


def window(target: Target, row: int, col: int, side: int, size_px: int, null_id: int, shown: object) -> Target:
    """Return the part of a target in a square window of its chip, resampled; null outside of the chip.

    The parameters are those of `rvbuild.tasks.augmentable.Augmentable.window`.
    """
    return resize({"labels": padded(target["labels"], row, col, side, null_id)}, (side, side), size_px)


def paste(target: Target, other: Target, rows: slice, cols: slice) -> Target:
    """Return a target with the labels of another in some rows and columns."""
    labels = np.array(target["labels"])
    labels[rows, cols] = other["labels"][rows, cols]
    return {"labels": labels}


def draw(target: Mapping[str, npt.NDArray[Any]], picture: Picture, classes: Classes) -> Picture:
    """Return a target as a picture (H, W, 3) uint8 in the colours of the classes."""
    return colourize(target["labels"], classes)


def _nearest(length: int, size_px: int) -> npt.NDArray[np.intp]:
    """Return, for each of `size_px` new pixels, the old pixel of `length` that its centre lies in."""
    return (2 * np.arange(size_px, dtype=np.intp) + 1) * length // (2 * size_px)
