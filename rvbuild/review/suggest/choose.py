"""The choice of windows, one after the other: unlike all that is labelled, and with much of what there is little of.

A window is worth its distance from the nearest window that is labelled, or was chosen before it. A window from which
the labels of some class would grow much is worth up to a third more: the sum over classes of the logarithm of how much
their labelled pixels would grow, as the model expects it. How unsure the model is does not count: it is most unsure
where it has nothing to learn from (see `benchmarks/suggest.py`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rvbuild.review.suggest import space
from rvbuild.review.suggest.measure import Measured

Integers = NDArray[np.int64]
Reals = NDArray[np.float64]

MORE = 1 / 3
"""How much more a window is worth, at the most, for the classes that are expected in it."""

AT_ONCE = 512
"""Labelled windows that all others are compared with at once."""


class Choice(NamedTuple):
    """A window that was chosen."""

    number: int
    """Of the window among those that may be labelled."""
    score: float
    """What it is worth, relative to the most that a window was worth at first, from 0 to 1."""
    diversity: float | None
    """The distance to the nearest window that is labelled or was chosen before; None for the first of all."""
    beyond: float
    """The share of the windows that may be labelled which were nearer to one of those."""
    growth: Reals
    """(K,): expected pixels of each class, relative to the labelled ones and those of windows that were chosen before;
    empty without a model."""


def choose(free: Measured, labelled: Measured | None, pixels: Integers, count: int) -> list[Choice]:
    """Return the windows to label next, in this order.

    Parameters
    ----------
    free
        The windows that may be labelled, at least one.
    labelled
        Those that are; None if there are none. Then the first choice is the most usual window.
    pixels
        (K,): the labelled pixels of the classes of the model, at least one of each; empty without a model.
    count
        How many to choose; all if there are fewer.
    """
    points, nearest = _placed(free, labelled)
    at_first, left = nearest, np.ones(len(points), dtype=np.bool_)
    learnt, chosen, most = pixels.astype(np.float64), list[Choice](), 0.0
    for _ in range(min(count, len(points))):
        growth = free.expected / learnt
        at_first = at_first if np.isfinite(at_first).all() else nearest
        if not np.isfinite(nearest).all():
            number, distance, worth = int((points**2).sum(axis=1).argmin()), None, 0.0
        else:
            values = np.where(left, nearest * _weights(growth, left), -1.0)
            number = int(values.argmax())
            distance, worth = float(nearest[number]), float(values[number])
            most = most or worth
        beyond = float((at_first < at_first[number]).mean())
        chosen.append(Choice(number, worth / most if most else 1.0, distance, beyond, growth[number]))
        learnt = learnt + free.expected[number]
        left[number] = False
        nearest = np.minimum(nearest, space.distances(points, points[number : number + 1])[:, 0])
    return chosen


def _placed(free: Measured, labelled: Measured | None) -> tuple[Reals, Reals]:
    """Return windows as points (N, F), and their distances (N,) from the nearest labelled one; inf without one."""
    known = 0 if labelled is None else len(labelled.means)
    points = space.whitened(free.means if labelled is None else np.concatenate([labelled.means, free.means]))
    others, points = points[:known], points[known:]
    nearest = np.full(len(points), np.inf)
    for start in range(0, known, AT_ONCE):
        nearest = np.minimum(nearest, space.distances(points, others[start : start + AT_ONCE]).min(axis=1))
    return points, nearest


def _weights(growth: Reals, left: NDArray[np.bool_]) -> Reals:
    """Return the factors (N,) of distances, from 1 to 4/3, given the growth (N, K) of classes."""
    gain: Reals = np.log1p(growth).sum(axis=1)
    most = float(gain[left].max())
    return 1 + MORE * gain / most if most > 0 else np.ones_like(gain)
