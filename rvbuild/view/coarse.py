"""Coarse samples of images whose samples cost as much as all of their pixels: these are read once, and kept."""

from __future__ import annotations

import numpy as np

from rvbuild.geo.raster.file import Image, Mask
from rvbuild.geo.raster.layer import Layer
from rvbuild.geo.windows import Window
from rvbuild.view.readers import Memo

STEP = 8
"""The finest samples that are kept hold every so many-th pixel: finer tiles touch few blocks of a file."""

IMAGE_BYTES = 64 << 20
"""Most bytes of the samples of one image; of larger ones, coarser samples are kept."""

CELL = 256
"""Side of the parts that are read and kept, in samples."""


def read_sample(image: Layer, window: Window, step: int, key: object, memo: Memo) -> tuple[Image, Mask]:
    """Read a sample of a window as `Layer.read_sample` does, from kept samples where that saves time.

    The pixels are then those that lie next to the middle of each `step`, as from an overview.

    Parameters
    ----------
    image
        The image.
    window, step
        Of a tile: the window begins at a multiple of `step`.
    key
        Changes when the image does.
    memo
        Keeps the samples; sizes are in bytes.
    """
    base = _base_step(image)
    if step < base or step % base or not image.sample_reads_all():
        return image.read_sample(window, step)
    times = step // base
    rows = _kept_places(window.row, window.row_stop, step, times, -(-image.grid.height // base))
    cols = _kept_places(window.col, window.col_stop, step, times, -(-image.grid.width // base))
    pixels = np.zeros((image.count, len(rows), len(cols)), dtype=image.dtype)
    valid, bands = np.zeros(pixels.shape, dtype=bool), np.arange(image.count)
    for cell_row in np.unique(rows // CELL).tolist():
        here_rows = np.flatnonzero(rows // CELL == cell_row)
        for cell_col in np.unique(cols // CELL).tolist():
            here_cols = np.flatnonzero(cols // CELL == cell_col)
            cell = memo.get(
                (key, base, cell_row, cell_col),
                lambda row=cell_row, col=cell_col: _cell(image, base, row, col),  # type: ignore[misc]
                lambda kept: kept[0].nbytes + kept[1].nbytes,
            )
            there = np.ix_(bands, here_rows, here_cols)
            inside = np.ix_(bands, rows[here_rows] - cell_row * CELL, cols[here_cols] - cell_col * CELL)
            pixels[there], valid[there] = cell[0][inside], cell[1][inside]
    return pixels, valid


def _base_step(image: Layer) -> int:
    """Return the step of the samples that are kept of an image."""
    step, height, width = STEP, image.grid.height, image.grid.width
    pixel_bytes = image.count * (image.dtype.itemsize + 1)
    while (height // step) * (width // step) * pixel_bytes > IMAGE_BYTES:
        step *= 2
    return step


def _kept_places(start: int, stop: int, step: int, times: int, count: int) -> np.ndarray:
    """Return which of `count` kept rows (or columns) stand for each `step` of a line."""
    first, last = start // step, -(-stop // step)
    return np.minimum(np.arange(first, last) * times + times // 2, count - 1)


def _cell(image: Layer, base: int, row: int, col: int) -> tuple[Image, Mask]:
    side = CELL * base
    window = Window(row * side, col * side, side, side).clip(image.grid.height, image.grid.width)
    return image.read_sample(window, base)
