"""Boxes: rectangles with sub-pixel edges as arrays (N, 4) of x0, y0, x1, y1, x the column and y the row.

Overlaps are found with a tree of the boxes, pair by pair: no matrix of all pairs, so that a scene may hold hundreds of
thousands.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import shapely
from numpy.typing import NDArray

from rvbuild.geo.windows import Window

Boxes = NDArray[np.floating]
"""(N, 4) x0, y0, x1, y1 in pixels."""

Indices = NDArray[np.intp]

_AT_ONCE = 1 << 15
"""Number of boxes whose neighbours are looked up at once: limits the memory of pairs."""


def areas(boxes: Boxes) -> Boxes:
    """Return the areas, (N,), in the dtype of the boxes."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def clipped(boxes: Boxes, window: Window) -> Boxes:
    """Return the parts of boxes inside a window; a box outside it has a side of at most 0."""
    low = np.array([window.col, window.row] * 2, dtype=boxes.dtype)
    high = np.array([window.col_stop, window.row_stop] * 2, dtype=boxes.dtype)
    # Only the side towards the window is clipped: boxes outside get a negative side, and no area.
    return np.concatenate([np.maximum(boxes[:, :2], low[:2]), np.minimum(boxes[:, 2:], high[2:])], axis=1)


def shared(one: Boxes, other: Boxes) -> Boxes:
    """Return the area that each pair of boxes shares, (N,)."""
    width = np.minimum(one[:, 2], other[:, 2]) - np.maximum(one[:, 0], other[:, 0])
    height = np.minimum(one[:, 3], other[:, 3]) - np.maximum(one[:, 1], other[:, 1])
    zero = one.dtype.type(0)
    common: Boxes = np.maximum(width, zero) * np.maximum(height, zero)
    return common


def iou(one: Boxes, other: Boxes) -> Boxes:
    """Return the intersection over union of each pair of boxes, (N,); sums in the order of torchvision's `nms`."""
    common = shared(one, other)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: Boxes = common / (areas(one) + areas(other) - common)
    return np.nan_to_num(ratio, nan=0.0)


class BoxTree:
    """A spatial index of boxes."""

    def __init__(self, boxes: Boxes) -> None:
        self._tree = shapely.STRtree(_diagonals(boxes))

    def query(self, boxes: Boxes) -> tuple[Indices, Indices]:
        """Return the pairs with overlapping bounds: positions in `boxes`, in order, and in the boxes of the tree."""
        mine, theirs = self._tree.query(_diagonals(boxes))
        return mine, theirs

    def touching(self, window: Window) -> Indices:
        """Return the positions of the boxes whose bounds overlap a window, in order."""
        box = np.array([[window.col, window.row, window.col_stop, window.row_stop]], dtype=np.float64)
        return np.sort(self.query(box)[1])


def overlapping(one: Boxes, other: Boxes, least: float) -> tuple[Indices, Indices, Boxes]:
    """Return the pairs with an intersection over union above `least`, by position in `one`, then in `other`.

    Returns
    -------
    mine, theirs : (P,) positions in `one` and in `other`
    iou : (P,) of each pair, as `iou` gives it
    """
    parts = []
    for mine, theirs in overlapping_pairs(one, other):
        values = iou(one[mine], other[theirs])
        # Compared as doubles, as torchvision does.
        enough = values.astype(np.float64) > least
        parts.append((mine[enough], theirs[enough], values[enough]))
    if not parts:
        nothing = np.empty(0, dtype=np.intp)
        return nothing, nothing, np.empty(0, dtype=one.dtype)
    mine, theirs, values = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.lexsort((theirs, mine))
    return mine[order], theirs[order], values[order]


def overlapping_pairs(one: Boxes, other: Boxes) -> Iterator[tuple[Indices, Indices]]:
    """Yield pairs with overlapping bounds, positions in `one`, in order, and in `other`; all of a box together."""
    lines = _diagonals(other)
    asking, tree = lines if one is other else _diagonals(one), shapely.STRtree(lines)
    for start in range(0, len(one), _AT_ONCE):
        mine, theirs = tree.query(asking[start : start + _AT_ONCE])
        yield mine + start, theirs


def nms(boxes: Boxes, scores: NDArray[np.floating], classes: NDArray[np.integer], iou_thresh: float) -> Indices:
    """Return which boxes are left of those that overlap: non-maximum suppression, each class for itself.

    Of two boxes of a class whose intersection over union is above `iou_thresh`, the one with the higher score stays,
    the first of equals; a box that is gone suppresses none. The result is that of `torchvision.ops.batched_nms`.

    Parameters
    ----------
    boxes, scores, classes
        (N, 4), (N,) and (N,).
    iou_thresh
        The largest overlap that two boxes of a class may have.

    Returns
    -------
    (K,) positions of the boxes that stay, by falling score.
    """
    order = np.argsort(-scores, kind="stable")
    stays = np.ones(len(boxes), dtype=bool)
    for class_id in np.unique(classes):
        ranked = order[classes[order] == class_id]
        stays[ranked] = _sweep(boxes[ranked], iou_thresh)
    kept: Indices = order[stays[order]]
    return kept


def _sweep(boxes: Boxes, iou_thresh: float) -> NDArray[np.bool_]:
    """Return which boxes of one class are kept, (N,) bool; they are sorted by rank."""
    alive = bytearray(np.ones(len(boxes), dtype=bool))
    for stronger, weaker in overlapping_pairs(boxes, boxes):
        below = stronger < weaker
        stronger, weaker = stronger[below], weaker[below]
        enough = iou(boxes[stronger], boxes[weaker]).astype(np.float64) > iou_thresh
        # By rank: whether a box is kept is known before it can suppress others.
        for box, other in zip(stronger[enough].tolist(), weaker[enough].tolist(), strict=True):
            if alive[box]:
                alive[other] = 0
    return np.frombuffer(alive, dtype=bool).copy()


def _diagonals(boxes: Boxes) -> NDArray[np.object_]:
    """Return diagonals of the boxes, which have the same bounds: a tree only uses these."""
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 2, 2)
    lines: NDArray[np.object_] = shapely.linestrings(corners)
    return lines
