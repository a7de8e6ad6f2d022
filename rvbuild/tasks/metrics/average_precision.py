"""Average precision of detections as COCO defines it, without its limit of 100 boxes in an image.

For each class and range of sizes, detections in order of falling score take the free label with which they share most,
if that is at least the threshold, at ten thresholds of intersection over union at once. Labels that do not count
(outside the range, or `ignored`) are taken only by what finds no other; what takes one counts neither as a hit nor as
an error, nor does a miss of another size. Precision is made monotonic and averaged over 101 recalls.

Formulas: pycocotools' `COCOeval`, which this equals to rounding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rvbuild.geo.vector.boxes import Boxes, areas, overlapping
from rvbuild.tasks.metrics.tables import ratio

IOUS = np.linspace(0.5, 0.95, 10)
"""(T,) the thresholds."""

RECALLS = np.linspace(0.0, 1.0, 101)
"""(R,) where precision is read."""

SIZES = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""The ranges of area in square pixels, both ends included: (A,)."""

Bools = NDArray[np.bool_]
Bits = NDArray[np.uint64]
"""One bit for each size and threshold: bit `size * len(IOUS) + threshold`."""

_ALL_LEVELS = (1 << len(IOUS)) - 1
_EVERYTHING = (1 << len(SIZES) * len(IOUS)) - 1


class Matches(NamedTuple):
    """How the detections of one class fit its labels in one scene or chip."""

    scores: NDArray[np.float64]
    """(D,) falling."""
    hits: Bits
    """(D,) where a detection matched a label that counts."""
    errors: Bits
    """(D,) where it counts and matched none."""
    labels: NDArray[np.int64]
    """(A,) how many labels count."""


def match(boxes: Boxes, scores: NDArray[np.floating], labels: Boxes, ignored: Bools | None = None) -> Matches:
    """Return how detections fit labels, all of one class.

    Parameters
    ----------
    boxes, scores
        (D, 4) and (D,), in any order.
    labels
        (G, 4).
    ignored
        (G,) labels that do not count, or None.
    """
    order = np.argsort(-scores, kind="stable")
    boxes, labels = boxes[order].astype(np.float64), labels.astype(np.float64)
    counts = _in_range(areas(labels))
    if ignored is not None:
        counts &= ~ignored
    matched, idle = _assign(boxes, labels, _to_bits(counts))
    errors = ~matched & _to_bits(_in_range(areas(boxes)))
    return Matches(scores[order].astype(np.float64), matched & ~idle, errors, counts.sum(axis=1))


def _in_range(values: NDArray[np.floating]) -> Bools:
    """Return which areas (N,) belong to each range of sizes, (A, N)."""
    limits = np.array(list(SIZES.values()))[:, :, np.newaxis]
    inside: Bools = (values >= limits[:, 0]) & (values <= limits[:, 1])
    return inside


def _to_bits(sizes: Bools) -> Bits:
    """Return bits, (N,), that are set for all thresholds of some sizes, (A, N)."""
    levels = [np.uint64(_ALL_LEVELS << size * len(IOUS)) for size in range(len(SIZES))]
    bits: Bits = np.bitwise_or.reduce(
        [np.where(row, level, np.uint64(0)) for row, level in zip(sizes, levels, strict=True)]
    )
    return bits


def _assign(boxes: Boxes, labels: Boxes, counts: Bits) -> tuple[Bits, Bits]:
    """Return where each detection finds a label, and where that does not count: both (D,).

    All sizes and thresholds are decided at once, as bits of integers.
    """
    matched, idle = [0] * len(boxes), [0] * len(boxes)
    mine, theirs, shares = overlapping(boxes, labels, IOUS[0] - 1e-9)
    # A nearly perfect overlap passes the last threshold, despite rounding.
    passed = np.searchsorted(np.minimum(IOUS, 1 - 1e-10), shares, side="right")
    below = [
        sum(((1 << levels) - 1) << size * len(IOUS) for size in range(len(SIZES))) for levels in range(len(IOUS) + 1)
    ]
    # By detection, then the labels that it shares most with first; of equals, the last.
    order = np.lexsort((-theirs, -shares, mine))
    free, counting = [_EVERYTHING] * len(labels), counts.tolist()
    rows = zip(mine[order].tolist(), theirs[order].tolist(), passed[order].tolist(), strict=True)
    for box, pairs in itertools.groupby(rows, key=lambda row: row[0]):
        candidates = [(label, below[levels]) for _, label, levels in pairs]
        left = _EVERYTHING
        # Labels that count go before those that do not.
        for label, passes in candidates:
            taken = free[label] & passes & counting[label] & left
            free[label] ^= taken
            left ^= taken
        wanting = left
        for label, passes in candidates:
            taken = free[label] & passes & ~counting[label] & left
            free[label] ^= taken
            left ^= taken
        matched[box], idle[box] = _EVERYTHING ^ left, wanting ^ left
    return np.array(matched, dtype=np.uint64), np.array(idle, dtype=np.uint64)


def _unpacked(bits: Bits) -> NDArray[np.float64]:
    """Return the bits (D,) as ones and zeros, (A, T, D)."""
    places = np.arange(len(SIZES) * len(IOUS), dtype=np.uint64)[:, np.newaxis]
    return (bits >> places & np.uint64(1)).astype(np.float64).reshape(len(SIZES), len(IOUS), len(bits))


def precision(parts: Sequence[Matches]) -> NDArray[np.float64]:
    """Return the precision at each recall over several scenes or chips: (A, T, R), NaN where no label counts."""
    sizes = (len(SIZES), len(IOUS), len(RECALLS))
    result = np.full(sizes, np.nan)
    labels = np.sum([part.labels for part in parts], axis=0) if parts else np.zeros(sizes[0], dtype=np.int64)
    if not labels.any():
        return result
    scores = np.concatenate([part.scores for part in parts])
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(_unpacked(np.concatenate([part.hits for part in parts])[order]), axis=2)
    errors = np.cumsum(_unpacked(np.concatenate([part.errors for part in parts])[order]), axis=2)
    exact = hits / (hits + errors + np.spacing(1))
    best = np.maximum.accumulate(exact[:, :, ::-1], axis=2)[:, :, ::-1]
    for size in np.flatnonzero(labels):
        for level in range(sizes[1]):
            places = np.searchsorted(hits[size, level] / labels[size], RECALLS, side="left")
            reached = places < len(scores)
            result[size, level] = 0.0
            result[size, level, reached] = best[size, level, places[reached]]
    return result


def rates(parts: Sequence[Matches], score_thresh: float) -> tuple[float, float]:
    """Return recall and precision of the boxes that reach a score, at the first threshold; NaN for 0 / 0."""
    scores, hits, errors, labels = _ranked(parts)
    shown = int(np.count_nonzero(scores >= score_thresh))
    right, wrong = (int(values[shown - 1]) if shown else 0 for values in (hits, errors))
    return ratio(right, labels), ratio(right, right + wrong)


def best_score(parts: Sequence[Matches]) -> tuple[float, float]:
    """Return the score threshold with the highest F1 at the first IoU threshold, and that F1.

    The highest of equal scores; NaN if no label counts or no box is right.
    """
    scores, hits, errors, labels = _ranked(parts)
    if not labels or not len(hits) or not hits[-1]:
        return math.nan, math.nan
    f1 = 2 * hits / (hits + errors + labels)
    # Boxes with the same score are kept or dropped together.
    f1[:-1][scores[1:] == scores[:-1]] = 0
    best = int(np.argmax(f1))
    return float(scores[best]), float(f1[best])


def _ranked(parts: Sequence[Matches]) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], int]:
    """Return falling scores, hits and errors so far, each (D,), and how many labels; any size, IoU 0.5."""
    first = np.uint64(1)
    scores = np.concatenate([np.empty(0), *(part.scores for part in parts)])
    order = np.argsort(-scores, kind="stable")
    hits, errors = (
        np.cumsum((np.concatenate([np.empty(0, np.uint64), *bits]) & first).astype(np.int64)[order])
        for bits in ([part.hits for part in parts], [part.errors for part in parts])
    )
    return scores[order], hits, errors, int(sum(part.labels[0] for part in parts))


def average(values: NDArray[np.float64], size: str = "all", iou: float | None = None) -> float:
    """Return the average precision from `precision`'s array: of one size, at one threshold or over all; NaN if unknown.

    >>> average(np.full((4, 10, 101), 0.5), iou=0.75)
    0.5
    """
    chosen = values[list(SIZES).index(size)]
    if iou is not None:
        chosen = chosen[int(np.argmin(np.abs(IOUS - iou)))]
    return float(np.mean(chosen))
