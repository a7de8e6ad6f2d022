"""Spatial blocks of a scene, split into training, validation and test: the part in one split, as an area of interest.

Blocks are squares on the pixel grid, from its first row and column. What is less than half a block at the end belongs
to the block before it. Blocks that share nothing with the scene's area of interest do not count. The others are put in
an order that follows from the seed and their place alone, and shared as
`rvbuild.project.scenes.shares` says: so splits never share a pixel, and all parts of a scene know the same shares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from rvbuild.errors import DataError
from rvbuild.geo.grid import Grid
from rvbuild.geo.windows import Window
from rvbuild.project.scenes import shares
from rvbuild.settings.area import SplitBlockSettings

MOST_TRIED = 20_000
"""Blocks that a scene is cut into, at most, to find out which size would do."""


class Blocks:
    """Some blocks of a scene.

    Parameters
    ----------
    grid
        Of the scene.
    block_px
        Side of a block.
    chosen
        (rows, columns) bool: which blocks.
    """

    def __init__(self, grid: Grid, block_px: int, chosen: NDArray[np.bool_]) -> None:
        self.grid = grid
        self._rows, self._cols = edges(grid.height, block_px), edges(grid.width, block_px)
        self._chosen = chosen

    @property
    def bounds(self) -> Window:
        """The smallest window that contains all blocks."""
        rows, cols = np.flatnonzero(self._chosen.any(axis=1)), np.flatnonzero(self._chosen.any(axis=0))
        row, col = int(self._rows[rows[0]]), int(self._cols[cols[0]])
        return Window(row, col, int(self._rows[rows[-1] + 1]) - row, int(self._cols[cols[-1] + 1]) - col)

    def contains(self, window: Window) -> bool:
        """Tell whether the window's part inside the scene lies entirely in the blocks; False without such a part."""
        rows, cols = self._under(window)
        return bool(rows.size and cols.size and self._chosen[np.ix_(rows, cols)].all())

    def windows(self, window: Window) -> list[Window]:
        """Return the part of the window in each block, row by row."""
        rows, cols = self._under(window)
        return [
            self._window(row, col).intersection(window)
            for row in rows.tolist()
            for col in cols.tolist()
            if self._chosen[row, col]
        ]

    def contains_points(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Tell which points in pixel coordinates, (N,) each, lie in the blocks."""
        rows = np.searchsorted(self._rows, y, side="right") - 1
        cols = np.searchsorted(self._cols, x, side="right") - 1
        height, width = self._chosen.shape
        there = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
        inside: NDArray[np.bool_] = there & self._chosen[np.clip(rows, 0, height - 1), np.clip(cols, 0, width - 1)]
        return inside

    def mask(self, window: Window) -> NDArray[np.bool_]:
        """Return which pixels lie in the blocks: (H, W) bool, False outside the scene."""
        mask = np.zeros((window.height, window.width), dtype=bool)
        for part in self.windows(window):
            mask[part.slices_in(window)] = True
        return mask

    def _under(self, window: Window) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the rows and the columns of the blocks that overlap a window."""
        part = window.clip(self.grid.height, self.grid.width)
        if not (part.height and part.width):
            return np.arange(0), np.arange(0)
        rows = np.searchsorted(self._rows, [part.row, part.row_stop - 1], side="right") - 1
        cols = np.searchsorted(self._cols, [part.col, part.col_stop - 1], side="right") - 1
        return np.arange(rows[0], rows[1] + 1), np.arange(cols[0], cols[1] + 1)

    def _window(self, row: int, col: int) -> Window:
        return block(self._rows, self._cols, row, col)


def edges(length: int, block_px: int) -> NDArray[np.int64]:
    """Return where blocks begin along one axis, and the end of the last one.

    >>> edges(1000, 300).tolist(), edges(1100, 300).tolist(), edges(100, 300).tolist()
    ([0, 300, 600, 1000], [0, 300, 600, 900, 1100], [0, 100])
    """
    count = max(1, (length + block_px // 2) // block_px)
    return np.array([*range(0, count * block_px, block_px), length], dtype=np.int64)


def block(rows: NDArray[np.int64], cols: NDArray[np.int64], row: int, col: int) -> Window:
    """Return one block, between the edges."""
    top, left = int(rows[row]), int(cols[col])
    return Window(top, left, int(rows[row + 1]) - top, int(cols[col + 1]) - left)


def choose(grid: Grid, settings: SplitBlockSettings, counts: Callable[[Window], bool]) -> Blocks:
    """Return the blocks of a scene that a split has.

    Parameters
    ----------
    grid
        Of the scene.
    settings
        `split`, `block_px`, `seed`, and the shares of `validation` and `test`, each or None.
    counts
        Tells whether the window of a block counts.

    Raises
    ------
    DataError
        There are fewer blocks than the splits need.
    """
    block_px, validation, test = settings["block_px"], settings["validation"], settings["test"]
    places = _places(grid, block_px, counts)
    try:
        shared = shares.shared(len(places), validation, test)
    except shares.TooFewError:
        needed = shares.least(validation, test, len(places))
        raise DataError(
            f"expected at least {needed} blocks of {block_px} px to split into training, validation and test, found "
            f"{len(places)} in the area of a scene of {grid.width} x {grid.height} px (width x height). "
            f'{_smaller(grid, block_px, needed, counts)} or split by whole scenes with `by = "scene"`'
        ) from None
    order = shares.order(places, settings["seed"])
    rows, cols = edges(grid.height, block_px), edges(grid.width, block_px)
    chosen = np.zeros((len(rows) - 1, len(cols) - 1), dtype=bool)
    for place in shared[settings["split"]]:
        chosen[places[order[place]]] = True
    return Blocks(grid, block_px, chosen)


def _places(grid: Grid, block_px: int, counts: Callable[[Window], bool]) -> Sequence[tuple[int, int]]:
    """Return the (row, column) of the blocks that count."""
    rows, cols = edges(grid.height, block_px), edges(grid.width, block_px)
    return [
        (row, col)
        for row in range(len(rows) - 1)
        for col in range(len(cols) - 1)
        if counts(block(rows, cols, row, col))
    ]


def _smaller(grid: Grid, block_px: int, needed: int, counts: Callable[[Window], bool]) -> str:
    """Return how there would be enough blocks: of a smaller `block_px`, if one that is not tiny is enough."""
    while block_px > 1:
        block_px = max(1, block_px * 3 // 4)
        if (len(edges(grid.height, block_px)) - 1) * (len(edges(grid.width, block_px)) - 1) > MOST_TRIED:
            break
        if len(_places(grid, block_px, counts)) >= needed:
            return f"Set `block_px` to {block_px} or less,"
    return "Enlarge the area of interest,"
