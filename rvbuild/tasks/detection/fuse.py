"""Boxes that a detector found in several orientations of an image: weighted boxes fusion.

Boxes are taken by falling score, and each joins the group whose box, as it is so far, it overlaps most, if by more than
`SAME_IOU`, or begins a new group. As in the published method (Solovyev et al. 2021), the box of a group is the mean
of its members weighted by their scores, and its score is the sum of theirs over the number of orientations: what only
one orientation shows counts less. Unlike there, a group has one box of each orientation at most, so that two objects
that a detector tells apart stay two.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rvbuild.geo.vector.boxes import iou
from rvbuild.tasks.detection.candidates import Detected
from rvbuild.tasks.orientations import Orientation

SAME_IOU = 0.55
"""Boxes of two orientations that overlap by more may be of one object."""

_LEAST_WEIGHT = 1e-12
"""In place of a score of 0: a mean needs weights."""


def fused(predictions: Sequence[tuple[Orientation, Detected]], side_px: int) -> Detected:
    """Return the boxes of one image, by falling score.

    Parameters
    ----------
    predictions
        Its boxes in each orientation, and that.
    side_px
        The side of the image.
    """
    boxes = np.concatenate([turned(chip.boxes.astype(np.float64), o.inverse, side_px) for o, chip in predictions])
    scores = np.concatenate([chip.scores for _, chip in predictions]).astype(np.float64)
    outputs = np.concatenate([chip.outputs for _, chip in predictions]).astype(np.int64)
    turn = np.repeat(np.arange(len(predictions)), [len(chip.scores) for _, chip in predictions])
    order = np.argsort(-scores, kind="stable")
    groups = [(np.empty((0, 4)), np.empty(0), np.empty(0, dtype=np.int64))]
    for output in np.unique(outputs):
        own = order[outputs[order] == output]
        of_output = _grouped(boxes[own], scores[own], turn[own], len(predictions))
        groups.append((*of_output, np.full(len(of_output[1]), output)))
    boxes, scores, outputs = (np.concatenate(parts) for parts in zip(*groups, strict=True))
    order = np.argsort(-scores, kind="stable")
    return Detected(boxes[order].astype(np.float32), scores[order].astype(np.float32), outputs[order])


def _grouped(boxes: np.ndarray, scores: np.ndarray, turn: np.ndarray, turns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the boxes (G, 4) and the scores (G,) of the groups of boxes (N, 4) of one class, by falling score.

    Parameters
    ----------
    boxes, scores, turn
        (N, 4), (N,), and of which orientation each is, (N,).
    turns
        The number of orientations.
    """
    count = 0
    fused_boxes, weighted = np.empty_like(boxes), np.zeros_like(boxes)
    weights, sums = np.zeros(len(boxes)), np.zeros(len(boxes))
    has = np.zeros((len(boxes), turns), dtype=bool)
    for box, score, own in zip(boxes, scores, turn, strict=True):
        overlaps = np.where(has[:count, own], 0.0, iou(box[np.newaxis], fused_boxes[:count]))
        group = int(overlaps.argmax()) if count else 0
        if not count or overlaps[group] <= SAME_IOU:
            group, count = count, count + 1
        weight = max(score, _LEAST_WEIGHT)
        weighted[group] += weight * box
        weights[group] += weight
        sums[group] += score
        has[group, own] = True
        fused_boxes[group] = weighted[group] / weights[group]
    return fused_boxes[:count], sums[:count] / turns


def turned(boxes: np.ndarray, orientation: Orientation, side_px: int) -> np.ndarray:
    """Return boxes (N, 4) of a square image as they lie in it in an orientation."""
    x0, y0, x1, y1 = boxes.T
    if orientation.mirror:
        x0, x1 = side_px - x1, side_px - x0
    for _ in range(orientation.quarter_turns % 4):
        # Counter-clockwise, the right edge becomes the upper one.
        x0, y0, x1, y1 = y0, side_px - x1, y1, side_px - x0
    return np.stack([x0, y0, x1, y1], axis=1)
