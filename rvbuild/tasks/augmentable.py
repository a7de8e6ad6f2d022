"""The part of a task that random changes of training chips need: what happens to the targets."""

from __future__ import annotations

from typing import Protocol

from rvbuild.learn.hooks import Target
from rvbuild.settings.chip import ShownBoxes


class Augmentable(Protocol):
    """Changes of targets. Functions of modules, so that processes can be sent them."""

    def orient(self, target: Target, mirror: bool, quarter_turns: int, size_px: int) -> Target:
        """Return a target mirrored left to right (or not), then turned counter-clockwise, as the chip's image is."""

    def window(
        self, target: Target, row: int, col: int, side: int, size_px: int, null_id: int, shown: ShownBoxes | None
    ) -> Target:
        """Return the part of a target in a square window of its chip, resampled to `size_px` square.

        Parameters
        ----------
        target
            Of the chip.
        row, col, side
            The window, in pixels of the chip, which it may overhang.
        size_px
            The side of the chip.
        null_id
            The class outside of the chip.
        shown
            Which boxes the window shows; None for tasks without boxes.
        """

    def paste(self, target: Target, other: Target, rows: slice, cols: slice) -> Target | None:
        """Return a target with the part of another in some rows and columns; None if targets have no parts."""
