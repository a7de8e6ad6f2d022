"""The chips of object detection: which boxes they are to teach, and which windows are worth cutting.

A box is a target of a chip that shows at least `ioa_thresh` of its area. With `neg_ratio`, chips are either positive,
with a target, or background, where no box shows `neg_ioa_thresh` of its area; there are so many times as many of the
latter, and what is neither is not cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rvbuild.geo.labels.boxes import BoxLabels
from rvbuild.geo.vector.boxes import clipped
from rvbuild.geo.windows import Window
from rvbuild.learn.hooks import Target
from rvbuild.settings.chip import ChipSettings
from rvbuild.tasks.protocol import Draw, Span


def target(labels: BoxLabels, window: Window, chip: ChipSettings) -> Target:
    """Return `{"boxes": (n, 4) float32 x0, y0, x1, y1 in pixels of the window, "classes": (n,) uint8 class ids}`.

    With `clip`, boxes end at the edges of the window.
    """
    seen = labels.read(window)
    wanted = seen.share >= chip["ioa_thresh"] - 1e-9
    boxes = seen.boxes[wanted]
    if chip["clip"]:
        boxes = clipped(boxes, Window(0, 0, window.height, window.width))
    return {"boxes": boxes.astype(np.float32), "classes": seen.classes[wanted].astype(np.uint8)}


class BoxAim:
    """Chooses windows with boxes, and windows without; see `rvbuild.tasks.protocol.Aim`."""

    def __init__(self, labels: BoxLabels, chip: ChipSettings, draw: Draw) -> None:
        self._labels, self._chip, self._draw = labels, chip, draw
        self._ratio = chip["neg_ratio"] or 0.0

    def choose(self, windows: Sequence[Window]) -> list[Window]:
        """Return the positive windows of a grid, and a seeded choice of background ones, in the order they came.

        A scene without boxes counts as if it had one positive window.
        """
        kinds = [self._kind(window) for window in windows]
        background = [place for place, kind in enumerate(kinds) if kind is False]
        most = math.ceil(self._ratio * max(1, kinds.count(True)) - 1e-9)
        background.sort(key=lambda place: self._draw("background", *windows[place]))
        chosen = set(background[:most])
        return [window for place, window in enumerate(windows) if kinds[place] or place in chosen]

    def spans(self, number: int, attempt: int, shape: tuple[int, int]) -> tuple[Span, Span] | None:
        """Return the rows and columns at which a window shows a box completely, if this one must be positive.

        A box that is larger than the window fills it.
        """
        if not self._is_positive(number) or not len(self._labels.boxes):
            return None
        chosen = int(self._draw("box", number, attempt) * len(self._labels.boxes))
        x0, y0, x1, y1 = self._labels.boxes[chosen]
        return _span(y0, y1, shape[0]), _span(x0, x1, shape[1])

    def accepts(self, number: int, window: Window) -> bool:
        """Tell whether a random window has the required kind."""
        return self._kind(window) is self._is_positive(number)

    def _is_positive(self, number: int) -> bool:
        return bool(self._draw("kind", number) >= self._ratio / (1 + self._ratio))

    def _kind(self, window: Window) -> bool | None:
        """Return whether a window is positive (True), background (False), or neither."""
        share = self._labels.read(window).share
        if (share >= self._chip["ioa_thresh"] - 1e-9).any():
            return True
        return None if (share >= self._chip["neg_ioa_thresh"]).any() else False


def _span(start: float, stop: float, size_px: int) -> Span:
    """Return where a window may start so that it holds what reaches from `start` to `stop`, or lies within."""
    ends = (math.ceil(stop) - size_px, math.floor(start))
    return min(ends), max(ends)
