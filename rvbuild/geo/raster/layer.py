"""The common interface of all images: one file, a mosaic, a part, a stack or a transformed image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from rvbuild.geo.grid import Grid
from rvbuild.geo.raster.file import Image, Mask
from rvbuild.geo.raster.nodata import Nodata
from rvbuild.geo.sample import sampled
from rvbuild.geo.windows import Window


class Layer(ABC):
    """An image, read window by window: a context manager. Not thread-safe: open one for each thread.

    Attributes
    ----------
    grid : Grid
        The pixel grid.
    dtype : numpy.dtype
        Dtype of the bands that `read` returns.
    count : int
        Number of bands that `read` returns.
    nodata : tuple of float or None
        Nodata values of the bands that `read` returns; None: there is no nodata value.
    descriptions : tuple of str
        Names of the bands.
    files : tuple of Path
        The files of the image.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        dtype: np.dtype[Any],
        nodata: Sequence[Nodata],
        descriptions: Sequence[str],
        files: Sequence[Path],
    ) -> None:
        self.grid = grid
        self.dtype = dtype
        self.count = len(descriptions)
        self.nodata: tuple[Nodata, ...] = tuple(nodata)
        self.descriptions: tuple[str, ...] = tuple(descriptions)
        self.files: tuple[Path, ...] = tuple(files)

    def read(self, window: Window) -> tuple[Image, Mask]:
        """Read a window; it may reach beyond the scene.

        Returns
        -------
        image : (C, H, W) in `dtype`; 0 where it is not valid
        valid : (C, H, W) bool, per band: False outside the scene and its files, at nodata, NaN or infinite values, and
            where a mask band or alpha says so
        """
        image, valid = self.read_data(window)
        return image, np.ones(image.shape, dtype=bool) if valid is None else valid

    def read_data(self, window: Window) -> tuple[Image, Mask | None]:
        """Read a window like `read`, but return None for the mask if every value is valid, as in most windows."""
        image, valid = self.read_raw(window)
        return without_nodata(image, valid)

    @abstractmethod
    def read_raw(self, window: Window) -> tuple[Image, Mask]:
        """Read a window like `read`, but keep the stored values of pixels without data, so that NaN is visible.

        Both arrays are the caller's to change.
        """

    def read_sample(self, window: Window, step: int) -> tuple[Image, Mask]:
        """Read the middle one of each `step` by `step` pixels of a window inside the scene, in bounded memory.

        Where a file has overviews, the pixels are those of an overview.

        Returns
        -------
        image : (C, h, w) in `dtype`, h and w being the sides of the window over `step`, rounded up
        valid : (C, h, w) bool
        """
        rows, cols = sampled(window, step)
        image = np.zeros((self.count, len(rows), len(cols)), dtype=self.dtype)
        valid = np.zeros(image.shape, dtype=bool)
        for place, row in enumerate(rows.tolist()):
            pixels, known = self.read_raw(Window(row, window.col, 1, window.width))
            image[:, place], valid[:, place] = pixels[:, 0, cols - window.col], known[:, 0, cols - window.col]
        return image, valid

    def sample_reads_all(self) -> bool:
        """Tell whether a coarse sample of a window takes as long as all of its pixels.

        So it is for files in tiles without overviews: GDAL decodes each tile for a few of its pixels.
        """
        return False

    @abstractmethod
    def cache_bytes(self, rows: int, cols: int) -> int:
        """Return the bytes of decoded blocks that GDAL should keep while windows of `rows` rows are read.

        They are read row by row, from left to right over `cols` columns.
        """

    @abstractmethod
    def close(self) -> None:
        """Close all files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def without_nodata(image: Image, valid: Mask | None) -> tuple[Image, Mask | None]:
    """Return pixels with 0 where they are not valid, changed in place, and their mask: None if all are valid."""
    if valid is None or valid.all():
        return image, None
    image[~valid] = 0
    return image, valid
