"""Samples of windows: which pixels stand for all of them where a scene is shown smaller than it is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rvbuild.geo.windows import Window

Places = NDArray[np.int64]


def sampled(window: Window, step: int) -> tuple[Places, Places]:
    """Return the rows and the columns of a sample: the middle one of each `step`, and of the rest.

    >>> sampled(Window(0, 8, 10, 4), 4)
    (array([2, 6, 9]), array([10]))
    """
    return _along(window.row, window.row_stop, step), _along(window.col, window.col_stop, step)


def parts(start: int, stop: int, step: int) -> list[tuple[int, int]]:
    """Return the whole steps of a line, and the rest, each as (start, stop); neither is empty.

    >>> parts(0, 10, 4)
    [(0, 8), (8, 10)]
    """
    whole = start + (stop - start) // step * step
    return [(first, last) for first, last in ((start, whole), (whole, stop)) if last > first]


def _along(start: int, stop: int, step: int) -> Places:
    pieces = parts(start, stop, step)
    return np.concatenate([np.arange(a + min(step, b - a) // 2, b, step, dtype=np.int64) for a, b in pieces])
