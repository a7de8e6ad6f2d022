"""The choice of windows: one after the other, each the least like all that is labelled or was chosen before it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rvbuild.review.suggest import space
from rvbuild.review.suggest.measure import Measured

Reals = NDArray[np.float64]

AT_ONCE = 512
"""Labelled windows that all others are compared with at once."""


class Choice(NamedTuple):
    """A window that was chosen."""

    number: int
    """Of the window among those that may be labelled."""
    score: float
    """How much is expected from it, relative to the first choice, from 0 to 1."""
    diversity: float | None
    """The distance to the nearest window that is labelled or was chosen before; None for the first of all."""
    beyond: float
    """The share of the windows that may be labelled which were nearer to one of those."""


def choose(free: Measured, labelled: Measured | None, count: int) -> list[Choice]:
    """Return the windows to label next, in this order.

    With labels, each is the window that is farthest from all that are labelled or chosen already, among those that
    nobody has labelled. Without, the first is the most usual one.

    Parameters
    ----------
    free
        The windows that may be labelled, at least one.
    labelled
        Those that are; None if there are none.
    count
        How many to choose; all if there are fewer.
    """
    known = 0 if labelled is None else len(labelled.means)
    means = free.means if labelled is None else np.concatenate([labelled.means, free.means])
    points = space.whitened(means)
    points, others = points[known:], points[:known]
    nearest = np.full(len(points), np.inf)
    for start in range(0, known, AT_ONCE):
        nearest = np.minimum(nearest, space.distances(points, others[start : start + AT_ONCE]).min(axis=1))
    left = np.ones(len(points), dtype=np.bool_)
    chosen: list[Choice] = []
    best = 0.0
    for _ in range(min(count, len(points))):
        if not known and not chosen:
            number = int((points**2).sum(axis=1).argmin())
            chosen.append(Choice(number, 1.0, None, 0.0))
        else:
            number = int(np.where(left, nearest, -1.0).argmax())
            distance = float(nearest[number])
            best = best or distance
            beyond = float((nearest < distance).mean())
            chosen.append(Choice(number, distance / best if best else 0.0, distance, beyond))
        left[number] = False
        nearest = np.minimum(nearest, space.distances(points, points[number : number + 1])[:, 0])
    return chosen
