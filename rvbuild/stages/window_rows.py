"""Rows of the windows of a scene, in groups: what shares a batch, and what a band of a scene needs.

The network's last digits may depend on what else is in a batch. So batches end where a group of rows of windows ends,
and where groups begin depends on the width of the scene alone: a band of rows, predicted alone, is predicted in the
batches of the whole scene, and an area of interest that changes elsewhere changes nothing in it.
"""

from __future__ import annotations

from dataclasses import dataclass

from rvbuild.geo.windows import Window, starts

_BATCHES = 4
"""A group has at least so many batches, of a scene without an area of interest: the last one may not be full, which
costs something on a GPU. A scene of fewer windows is one group."""


@dataclass(frozen=True)
class WindowRows:
    """The rows of windows of a scene."""

    size: int
    """Of a window in pixels."""
    group_px: int
    """The rows of pixels from one group to the next, a multiple of the stride."""
    stride: int
    """Between windows in pixels."""

    @classmethod
    def of(cls, width: int, placing: tuple[int, int], batch_size: int) -> WindowRows:
        """Return the rows of windows of a scene of `width` pixels; `placing` is the result of `Task.placing`."""
        size, stride = placing
        in_a_row = len(starts(width, size, stride))
        least = -(-_BATCHES * batch_size // in_a_row)

        def places_left(rows: int) -> float:
            """Return the share of places in batches that no window has."""
            return -(rows * in_a_row) % batch_size / (rows * in_a_row)

        return cls(size, min(range(least, min(2 * least, least + 64) + 1), key=places_left) * stride, stride)

    def group(self, window: Window) -> int:
        """Return the number of the group of a window."""
        return window.row // self.group_px

    def needed(self, first: int, stop: int) -> range:
        """Return the groups of all windows that share pixels with the rows from `first` to the one before `stop`."""
        above = max(0, (first - self.size) // self.stride + 1) * self.stride
        return range(above // self.group_px, (stop - 1) // self.group_px + 1)

    def own(self, first: int, stop: int) -> range:
        """Return the groups of the windows that begin in the rows from `first`, where a group begins, up to `stop`."""
        if first % self.group_px:
            raise ValueError(f"expected a multiple of {self.group_px} rows, got {first}")
        return range(first // self.group_px, -(-stop // self.group_px))

    def pixels(self, groups: range, height: int) -> tuple[int, int]:
        """Return the rows of pixels of groups, first and stop, in a scene of `height` rows."""
        return groups.start * self.group_px, min(height, groups.stop * self.group_px + self.size - self.stride)
