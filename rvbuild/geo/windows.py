"""Windows: rectangles of pixels, and the grid of windows that covers a scene."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rvbuild.errors import DataError

MOST = 4_000_000
"""Of a scene at most: seconds, and less than a gigabyte, to list them."""


class Window(NamedTuple):
    """A rectangle of pixels: `Window(row=0, col=300, height=300, width=300)`.

    `row` and `col` may be negative and the window may reach beyond the image; what lies outside is padding.
    """

    row: int
    col: int
    height: int
    width: int

    @property
    def row_stop(self) -> int:
        """First row below the window."""
        return self.row + self.height

    @property
    def col_stop(self) -> int:
        """First column right of the window."""
        return self.col + self.width

    def intersection(self, other: Window) -> Window:
        """Return the intersection of two windows; its height or width is 0 if they do not overlap."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        height = max(0, min(self.row_stop, other.row_stop) - row)
        width = max(0, min(self.col_stop, other.col_stop) - col)
        return Window(row, col, height, width)

    def inside(self, height: int, width: int) -> bool:
        """Tell whether the window lies entirely in an image of this size."""
        return self.row >= 0 and self.col >= 0 and self.row_stop <= height and self.col_stop <= width

    def clip(self, height: int, width: int) -> Window:
        """Return the part of the window that lies in an image of this size."""
        return self.intersection(Window(0, 0, height, width))

    def slices_in(self, outer: Window) -> tuple[slice, slice]:
        """Return the (row, column) slices of this window in an array of the window `outer`."""
        row, col = self.row - outer.row, self.col - outer.col
        return slice(row, row + self.height), slice(col, col + self.width)


def sliding(height: int, width: int, size: int, stride: int | Sequence[int]) -> list[Window]:
    """Return the square windows that cover an image of `height` x `width` pixels, in row-major order.

    The windows start at (0, 0) and lie `stride` pixels, or (rows, columns), apart, so their places depend on nothing
    but size and stride. The last ones may overhang to the right and below; an image smaller than a window gets one
    window. With a stride above the size there are gaps, but no window lies wholly outside.

    >>> [tuple(w) for w in sliding(4, 6, 4, 4)]
    [(0, 0, 4, 4), (0, 4, 4, 4)]
    """
    down, right = (stride, stride) if isinstance(stride, int) else stride
    if min(height, width, size, down, right) < 1:
        raise ValueError(f"sliding windows need positive sizes, got {height} x {width}, size {size}, stride {stride}")
    return squares(starts(height, size, down), starts(width, size, right), size)


def squares(rows: Sequence[int], cols: Sequence[int], size: int) -> list[Window]:
    """Return square windows at all combinations of the rows and columns, in row-major order.

    Raises
    ------
    DataError
        They are more than `MOST`.
    """
    require_few(len(rows) * len(cols), size)
    return [Window(row, col, size, size) for row in rows for col in cols]


def require_few(count: int, size: int) -> None:
    """Raise a DataError if a scene has too many windows of `size` pixels."""
    if count > MOST:
        raise DataError(
            f"the scene has {count:,} windows of {size} px; expected at most {MOST:,}. Is it the right image? If so, "
            "increase chip.size_px or the stride, or split it into several scenes"
        )


def starts(length: int, size: int, stride: int) -> range:
    """Return where windows of `size` start along one axis of `length` pixels, `stride` apart."""
    covered = max(0, -(-(length - size) // stride)) + 1
    return range(0, min(covered * stride, length), stride)


def bands(height: int, width: int, rows: int) -> list[Window]:
    """Return full-width windows of at most `rows` rows that partition an image, from top to bottom."""
    return [Window(row, 0, min(rows, height - row), width) for row in range(0, height, rows)]
