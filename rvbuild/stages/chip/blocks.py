"""The blocks of a scene's chips: squares of a fixed grid, each with the windows that start in it, and its own shards.

The position of a window alone determines its block. So an edit of the labels in one place changes the shards of the
blocks there, and those of all other blocks stay as they are.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from rvbuild.geo.grid import Grid
from rvbuild.geo.windows import Window
from rvbuild.settings.chip import ChipSettings

BLOCK_BYTES = 16 << 20
"""Approximate size of the images in a block, in bytes. Blocks are rewritten as a whole; small ones are many files."""

MAX_PIECE = 16
"""Maximum number of blocks that are cut side by side: their labels are held in memory."""


class Block(NamedTuple):
    """The windows that start in one square of the grid of blocks."""

    number: int
    """Its position in the grid of blocks, row-major, used in the names of its shards."""
    row: int
    """Its row in the grid of blocks."""
    windows: list[Window]
    """Sorted by row and column."""

    @property
    def area(self) -> Window:
        """The smallest window that contains all of the block's windows."""
        rows, cols, heights, widths = zip(*self.windows, strict=True)
        row, col = min(rows), min(cols)
        row_stop, col_stop = max(map(operator.add, rows, heights)), max(map(operator.add, cols, widths))
        return Window(row, col, row_stop - row, col_stop - col)


def blocks(windows: Sequence[Window], grid: Grid, side_px: int) -> list[Block]:
    """Return the windows of a scene by block, in the order of the blocks; blocks without a window are left out.

    Parameters
    ----------
    windows
        Windows of any size. A window that starts outside the scene belongs to the nearest block.
    grid
        The pixel grid of the scene.
    side_px
        The side of a block.
    """
    columns = -(-grid.width // side_px)
    by_place: defaultdict[tuple[int, int], list[Window]] = defaultdict(list)
    for window in windows:
        row, col = min(max(window.row, 0), grid.height - 1), min(max(window.col, 0), grid.width - 1)
        by_place[row // side_px, col // side_px].append(window)
    return [Block(row * columns + col, row, sorted(by_place[row, col])) for row, col in sorted(by_place)]


def side_of(chip: ChipSettings, chip_bytes: int, area_px: int) -> int:
    """Return the side of a block in pixels.

    Parameters
    ----------
    chip
        The `chip` settings.
    chip_bytes
        The size of the image of one chip.
    area_px
        The pixels in which random windows may lie.
    """
    count = max(1, BLOCK_BYTES // chip_bytes)
    if chip["method"] == "random":
        return max(1, math.isqrt(area_px * count // chip["per_scene"]))
    stride = chip["stride_px"]
    return (stride if isinstance(stride, int) else max(stride)) * math.isqrt(count)


def pieces(blocks: Sequence[Block], least: int) -> list[list[Block]]:
    """Return blocks as pieces of work: neighbours in one row of blocks, so that they can be read from left to right.

    There are at least `least` pieces, if there are that many blocks, so that threads get equal shares.
    """
    rows: defaultdict[int, list[Block]] = defaultdict(list)
    for block in blocks:
        rows[block.row].append(block)
    cut: list[list[Block]] = []
    for row in rows.values():
        parts = min(len(row), max(-(-least // len(rows)), -(-len(row) // MAX_PIECE)))
        cuts = [len(row) * part // parts for part in range(parts + 1)]
        cut += [row[start:stop] for start, stop in itertools.pairwise(cuts)]
    return cut
