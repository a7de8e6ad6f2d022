"""The boxes that a part of a chip shows."""

from __future__ import annotations

import numpy as np

from rvbuild.geo.vector.boxes import areas, clipped
from rvbuild.geo.windows import Window
from rvbuild.learn.hooks import Target
from rvbuild.settings.chip import ShownBoxes

_THINNEST_PX = 0.01
"""What is thinner is not shown, as in chips."""


def shown_in(target: Target, window: Window, shown: ShownBoxes) -> Target:
    """Return the boxes of a chip that a window of it shows, in pixels of the window, by the rule of chips.

    A box is shown by a window with at least `ioa_thresh` of its area. With `clip`, boxes end at the edges of the
    window.

    Parameters
    ----------
    target
        `{"boxes": (n, 4), "classes": (n,)}` of the chip.
    window
        May overhang the chip.
    shown
        The rule.
    """
    boxes = target["boxes"].astype(np.float64)
    part = clipped(boxes, window)
    solid = (part[:, 2:] - part[:, :2] >= _THINNEST_PX).all(axis=1)
    kept = np.zeros(len(boxes), dtype=bool)
    kept[solid] = areas(part[solid]) / areas(boxes[solid]) >= shown["ioa_thresh"] - 1e-9
    chosen = part[kept] if shown["clip"] else boxes[kept]
    origin = np.array([window.col, window.row] * 2, dtype=np.float64)
    return {"boxes": (chosen - origin).astype(np.float32), "classes": target["classes"][kept]}
