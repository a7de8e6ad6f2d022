"""GDAL's cache of decoded blocks, large enough to read a scene by rows of windows.

By default it takes 5 % of the memory of the machine in each process. With too little, a block that several windows
share is decoded for each of them. `Layer.cache_bytes` tells which blocks are worth keeping.
"""

from __future__ import annotations

import rasterio

from rvbuild.geo.raster.open import SceneImage

MIN_BYTES, MAX_BYTES = 16 << 20, 512 << 20

LABEL_BYTES = 3
"""Bytes per pixel of coloured labels, the largest common kind."""

LABEL_BLOCK_ROWS = 2 * 256
"""Rows of the two blocks of labels that a window ends in, as tiled files have them."""


def block_cache(source: SceneImage, rows: int, *, readers: int = 1, labels: bool = False) -> rasterio.Env:
    """Return the rasterio environment in which to read windows of `rows` rows, from left to right and top to bottom.

    Parameters
    ----------
    source
        The imagery.
    rows
        The height of a window.
    readers
        Number of threads that read, each with its own open files, which share no blocks.
    labels
        Whether labels of the scene are read as well.
    """
    needed = source.cache_bytes(rows, source.grid.width)
    if labels:
        needed += (rows + LABEL_BLOCK_ROWS) * source.grid.width * LABEL_BYTES
    return cache_of(needed * readers)


def readers_of(source: SceneImage, rows: int, most: int) -> int:
    """Return how many threads, at most `most`, should read windows of `rows` rows: as many as there is a cache for.

    Otherwise they would decode the same blocks again and again. If there is none for one thread, all of them do.
    """
    needed = source.cache_bytes(rows, source.grid.width)
    return most if needed > MAX_BYTES else min(most, MAX_BYTES // max(1, needed))


def cache_of(needed_bytes: int) -> rasterio.Env:
    """Return a rasterio environment whose cache has `needed_bytes`, within bounds."""
    return rasterio.Env(GDAL_CACHEMAX=max(MIN_BYTES, min(MAX_BYTES, needed_bytes)))
