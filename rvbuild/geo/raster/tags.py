"""The meaning of values by the tags of a raster file: a band tagged as alpha, a colour table, a scale."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.windows import Window as RasterioWindow

from rvbuild.settings.image import TagSettings

Palette = NDArray[np.uint8]
"""(256, 4), or (65536, 4) of uint16: red, green, blue and opacity of each index."""

_INDICES = {"uint8": 1 << 8, "uint16": 1 << 16}
"""How many indices pixels of a dtype can hold."""

SAMPLES = 16
"""Number of windows of a scene's alpha bands to examine, spread over the whole scene."""

SAMPLE_PX = 32
"""Side of such a window."""

OPAQUE_SHARE = 0.95
"""Of the pixels of an alpha band that are not transparent, at least this share is opaque."""

NEARLY = 0.02
"""Tolerance around transparent and opaque, for lossy compression, relative to opaque."""


@dataclass(frozen=True)
class Apply:
    """How the project treats tags.

    Attributes
    ----------
    alpha
        Whether a band tagged as alpha is a mask; None: if it looks like one.
    palette
        Whether indices become the colours of the colour table.
    scale
        Whether values become value x scale + offset.
    """

    alpha: bool | None = None
    palette: bool = False
    scale: bool = False

    @classmethod
    def of(cls, image: TagSettings) -> Self:
        """Return the treatment of tags from the settings of an image."""
        return cls(image.get("alpha"), image.get("palette", False), image.get("scale", False))


STORED = Apply()
"""Values as stored."""


def alphas_of(dataset: Any) -> list[int]:
    """Return the bands, from 1, that a dataset calls alpha."""
    return [index for index, kind in enumerate(dataset.colorinterp, start=1) if kind == ColorInterp.alpha]


def palette_of(dataset: Any) -> Palette | None:
    """Return the colour table of a dataset of one band of uint8 or uint16; None of another one, or without a table."""
    size = _INDICES.get(dataset.dtypes[0])
    if size is None or len(dataset.indexes) - len(alphas_of(dataset)) != 1:
        return None
    try:
        table = dataset.colormap(1)
    except ValueError:
        return None
    colors = np.zeros((size, 4), dtype=np.uint8)
    for index, color in table.items():
        if index < size:
            colors[index] = color
    return colors


def is_grey(palette: Palette) -> bool:
    """Tell whether the colours are greys of increasing brightness: then indices mean the same as colours."""
    red, green, blue, _ = palette.T.astype(np.int64)
    brighter = np.flatnonzero(np.diff(red) < 0)
    last = int(brighter[0]) if len(brighter) else len(red) - 1
    used = slice(0, last + 1)
    return bool(
        (red[used] == green[used]).all() and (green[used] == blue[used]).all() and not palette[last + 1 :, :3].any()
    )


def scaling_of(dataset: Any, indexes: Sequence[int]) -> tuple[tuple[float, float], ...]:
    """Return the scale and the offset of some bands, from 1."""
    return tuple((float(dataset.scales[index - 1]), float(dataset.offsets[index - 1])) for index in indexes)


def looks_like_alpha(files: Sequence[Path], open_dataset: Any) -> bool:
    """Tell whether the bands of a scene's files that are tagged as alpha look like masks.

    Parameters
    ----------
    files
        All files of the scene. If there are many, only some are examined, always the same ones.
    open_dataset
        Opens one.

    Returns
    -------
    bool
        False if in one of them more than few pixels are neither transparent nor opaque: a fourth band of uint8 is
        called alpha by default when GDAL writes it. True if no band is called alpha.
    """
    chosen = [files[position * len(files) // SAMPLES] for position in range(SAMPLES)]
    for path in dict.fromkeys(chosen):
        with open_dataset(path) as dataset:
            for band in alphas_of(dataset):
                if not _is_mask(_sample(dataset, band, -(-SAMPLES // len(files)))):
                    return False
    return True


def _is_mask(values: NDArray[Any]) -> bool:
    """Tell whether the pixels of a band are nearly all transparent or opaque."""
    values = values[np.isfinite(values)].astype(np.float64)
    opaque = values.max(initial=0.0)
    visible = values[np.abs(values) > NEARLY * opaque]
    return not visible.size or np.count_nonzero(visible >= (1 - NEARLY) * opaque) >= OPAQUE_SHARE * visible.size


def _sample(dataset: Any, band: int, count: int) -> NDArray[Any]:
    """Return pixels of a band from at least `count` windows: the middle ones of equal parts."""
    return np.concatenate(
        [
            dataset.read(band, window=RasterioWindow(col, row, width, height)).ravel()
            for row, col, height, width in scattered(dataset.height, dataset.width, count, SAMPLE_PX)
        ]
    )


@functools.lru_cache(maxsize=1024)
def scattered(height: int, width: int, count: int, side: int) -> tuple[tuple[int, int, int, int], ...]:
    """Return (row, column, height, width) of windows in the middle of equal parts of a raster, at least `count`.

    >>> scattered(100, 100, 4, 10)
    ((20, 20, 10, 10), (20, 70, 10, 10), (70, 20, 10, 10), (70, 70, 10, 10))
    """
    parts = int(np.ceil(np.sqrt(count)))
    rows, cols = ([_middle(number, parts, length, side) for number in range(parts)] for length in (height, width))
    return tuple((row, col, tall, wide) for row, tall in dict.fromkeys(rows) for col, wide in dict.fromkeys(cols))


def _middle(number: int, parts: int, length: int, side: int) -> tuple[int, int]:
    """Return the start and the length of the middle piece of one of the parts of a side."""
    size = min(side, length)
    return min(max(0, (2 * number + 1) * length // (2 * parts) - size // 2), length - size), size
