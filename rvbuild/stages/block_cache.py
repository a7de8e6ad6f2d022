"""GDAL's cache of decoded blocks, as large as it takes to read a scene by rows of windows.

By default it takes 5 % of the memory of the machine in each process. With too little, a block that several windows
share is decoded for each of them.
"""

from __future__ import annotations

import rasterio

from rvbuild.geo.image import SceneImage
from rvbuild.geo.rasterfile import open_dataset

MIN_BYTES, MAX_BYTES = 16 << 20, 512 << 20

LABEL_BYTES = 3
"""Per pixel: coloured labels, the largest that are common."""


def block_cache(source: SceneImage, rows: int, *, readers: int = 1, labels: bool = False) -> rasterio.Env:
    """Return the rasterio environment in which to read windows of `rows` rows, from left to right and top to bottom.

    Parameters
    ----------
    source
        The imagery.
    rows
        Of a window.
    readers
        How many threads read, each with its own open files, which share no blocks.
    labels
        Whether labels of the scene are read as well.
    """
    with open_dataset(source.files[0]) as dataset:
        # GDAL decodes all bands of a block, chosen or not, if the file interleaves them by pixel.
        pixel_bytes, block_rows = dataset.count * source.dtype.itemsize, dataset.block_shapes[0][0]
    if labels:
        pixel_bytes += LABEL_BYTES
    needed = (rows + 2 * block_rows) * source.grid.width * pixel_bytes * readers
    return cache_of(needed)


def cache_of(needed_bytes: int) -> rasterio.Env:
    """Return a rasterio environment whose cache has `needed_bytes`, within bounds."""
    return rasterio.Env(GDAL_CACHEMAX=max(MIN_BYTES, min(MAX_BYTES, needed_bytes)))
