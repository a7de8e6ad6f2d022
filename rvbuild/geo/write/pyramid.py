"""Class ids with their overviews, tile by tile, of whole scenes or of strips of rows.

A pixel of an overview has the class that is most frequent in 2 x 2 pixels of the level below, and depends on nothing
else. So a block of `BLOCK_PX` rows and columns gives whole tiles of the first overviews, and strips that begin at
multiples of it give those of the scene. The other overviews are made of the last of these in the same way. Memory grows
neither with the height nor with the width of a scene.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow

from rvbuild.cores import cores
from rvbuild.geo.classes import NODATA
from rvbuild.geo.raster.file import open_dataset
from rvbuild.geo.windows import Window
from rvbuild.geo.write.cog import TILE_COLS

Ids = NDArray[np.uint8]

_LEVELS = 3
"""Overviews that are made of a block."""
BLOCK_PX = TILE_COLS << _LEVELS

_CACHE_BYTES = 32 << 20
"""Of GDAL's block cache: whole tiles are written, and each block is read once."""

_PROFILE = {
    "driver": "GTiff",
    "count": 1,
    "dtype": "uint8",
    "tiled": True,
    "blockxsize": TILE_COLS,
    "blockysize": TILE_COLS,
    "compress": "deflate",
    "bigtiff": "if_safer",
}
"""Tiles have the encoding of GDAL's COG driver."""


class _Rows(NamedTuple):
    """Rows of a level of a scene, in a file of their own."""

    file: Any
    first: int
    stop: int


def factors(height: int, width: int) -> list[int]:
    """Return by how much each overview is smaller than the scene; the last fits in a tile, or has one row or column.

    >>> factors(5000, 3333), factors(512, 512), factors(9000, 2)
    ([2, 4, 8, 16], [], [2])
    """
    smaller = (1 << level for level in range(1, 32))
    return [
        factor for factor in smaller if max(height, width) * 2 > TILE_COLS * factor and min(height, width) >= factor
    ]


def write_levels(ids: Path, shape: tuple[int, int], rows: tuple[int, int], folder: Path) -> list[Path]:
    """Write the tiles of a strip, and of the overviews that have whole tiles in each strip.

    Parameters
    ----------
    ids
        One band of uint8 class ids of the scene, `NODATA` where there is none.
    shape
        Height and width of the scene.
    rows
        The first row of the strip, and the one after its last: multiples of `BLOCK_PX`, or the height of the scene.
    folder
        Receives `level-0.tif`, the strip itself, `level-1.tif` and so on. A level of which the strip has no row is left
        out.

    Returns
    -------
    list of Path
        The files.
    """
    with open_dataset(ids) as file:
        return _write([_Rows(file, 0, shape[0])], 0, shape, rows, range(_count(shape, 0) + 1), folder)


def write_upper_levels(strips: Sequence[Mapping[str, Path]], shape: tuple[int, int], folder: Path) -> list[list[Path]]:
    """Return the files of all levels of a scene, after those are written that strips have no whole tiles of.

    Parameters
    ----------
    strips
        For each strip, from top to bottom: the files of `write_levels` by name.
    shape
        Height and width of the scene.
    folder
        Receives the other levels.

    Returns
    -------
    list of list of Path
        For each level, the files from top to bottom.
    """
    names = [_name(level) for level in range(_LEVELS + 1)]
    levels = [paths for name in names if (paths := [files[name] for files in strips if name in files])]
    while len(levels) <= len(factors(*shape)):
        below = len(levels) - 1
        with contextlib.ExitStack() as files:
            parts, first = list[_Rows](), 0
            for path in levels[below]:
                file = files.enter_context(open_dataset(path))
                parts.append(_Rows(file, first, first + file.height))
                first += file.height
            made = range(1, _count(shape, below) + 1)
            levels += [[path] for path in _write(parts, below, shape, (0, shape[0]), made, folder)]
    return levels


def _name(level: int) -> str:
    return f"level-{level}.tif"


def _count(shape: tuple[int, int], below: int) -> int:
    """Return how many levels above one are made of its blocks."""
    return min(_LEVELS, len(factors(*shape)) - below)


def _write(
    parts: Sequence[_Rows],
    below: int,
    shape: tuple[int, int],
    rows: tuple[int, int],
    levels: range,
    folder: Path,
) -> list[Path]:
    """Write levels of rows of a scene; level 0 is the one called `below`, which `parts` have the pixels of."""
    heights, widths = ([length >> (below + level) for level in range(levels.stop)] for length in shape)
    spans = [
        (rows[0] >> (below + level), height if rows[1] == shape[0] else rows[1] >> (below + level))
        for level, height in enumerate(heights)
    ]
    with contextlib.ExitStack() as files:
        files.enter_context(rasterio.Env(GDAL_PAM_ENABLED="NO", GDAL_CACHEMAX=_CACHE_BYTES))
        written = {}
        for level in levels:
            first, stop = spans[level]
            if stop > first:
                size = {"height": stop - first, "width": widths[level], "num_threads": str(cores())}
                written[level] = files.enter_context(
                    rasterio.open(folder / _name(below + level), "w", **_PROFILE, **size)
                )
        for row in range(*spans[0], BLOCK_PX):
            for col in range(0, widths[0], BLOCK_PX):
                block = Window(row, col, BLOCK_PX, BLOCK_PX).clip(spans[0][1], widths[0])
                ids = _read(parts, block)
                for level in range(levels.stop):
                    at = Window(row >> level, col >> level, BLOCK_PX >> level, BLOCK_PX >> level)
                    at = at.clip(heights[level], widths[level])
                    if not (at.height > 0 and at.width > 0):
                        break
                    if level:
                        ids = halved(ids)
                    if level in written:
                        place = RasterioWindow(at.col, at.row - spans[level][0], at.width, at.height)
                        written[level].write(ids, 1, window=place)
    return [folder / _name(below + level) for level in written]


def _read(parts: Sequence[_Rows], block: Window) -> Ids:
    """Return the ids of a block of a level."""
    ids = np.empty((block.height, block.width), dtype=np.uint8)
    for part in parts:
        shared = block.intersection(Window(part.first, block.col, part.stop - part.first, block.width))
        if shared.height > 0:
            where = RasterioWindow(shared.col, shared.row - part.first, shared.width, shared.height)
            ids[shared.slices_in(block)] = part.file.read(1, window=where)
    return ids


def halved(ids: Ids) -> Ids:
    """Return the most frequent classes of 2 x 2 pixels; of those that are equally frequent, the first.

    Parameters
    ----------
    ids
        (h, w) uint8; pixels of `NODATA` do not count unless all four are. A last odd row or column is left out, as by
        GDAL's COG driver.

    >>> halved(np.array([[1, 2, 255, 9], [2, 3, 255, 255]], dtype=np.uint8))
    array([[2, 9]], dtype=uint8)
    """
    even = ids[: len(ids) & ~1, : ids.shape[1] & ~1]
    first, second, third, fourth = (even[row::2, col::2] for row in (0, 1) for col in (0, 1))
    later = np.where((second == third) | (second == fourth), second, np.where(third == fourth, third, first))
    most = np.where((first == second) | (first == third) | (first == fourth), first, later)
    unknown = (first == NODATA) | (second == NODATA) | (third == NODATA) | (fourth == NODATA)
    if unknown.any():
        most[unknown] = _known([part[unknown] for part in (first, second, third, fourth)])
    return most


def _known(parts: Sequence[Ids]) -> Ids:
    """Return the most frequent classes (N,) of four pixels (N,) each, without those of `NODATA`."""
    ids = np.stack(parts)
    votes = np.where(ids == NODATA, 0, (ids == ids[:, np.newaxis]).sum(axis=1))
    most: Ids = ids[votes.argmax(axis=0), np.arange(ids.shape[1])]
    return most
