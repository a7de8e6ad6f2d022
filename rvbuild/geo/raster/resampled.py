"""An image on the pixel grid of another one: unchanged if aligned, or else resampled, from any CRS."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject as warp

from rvbuild.errors import DataError
from rvbuild.geo.grid import Grid, crs_name, reproject, same_crs
from rvbuild.geo.raster.cropped import Cropped
from rvbuild.geo.raster.file import Image, Mask
from rvbuild.geo.raster.layer import Layer
from rvbuild.geo.windows import Window

METHODS = ("nearest", "bilinear", "cubic", "cubic_spline", "lanczos", "average", "mode", "min", "max", "med")
"""How pixels are resampled, as GDAL calls it."""

BLOCK_PX = 256
"""Side of the blocks that are warped at a time, at most. They lie on the grid from its first pixel on, so that a pixel
is the same in whatever window it is read."""

SOURCE_PX = 4096
"""Approximate maximum side of the area to read for a block: blocks are smaller if the source pixels are much finer."""

CACHE_BYTES = 64 << 20
"""Number of warped blocks in memory, with their masks."""

_PLANE = CRS.from_epsg(3857)
"""Placeholder for the CRS of images without one: it only has to be the same on both sides."""

_REACH_PX = 4
"""How far the kernel of a method reaches, in pixels of the coarser image, with something to spare."""


def on_grid(source: Layer, grid: Grid, method: str) -> Layer:
    """Return an image with the pixels of `grid`: its own where these are the same, else resampled.

    Raises
    ------
    DataError
        The place of the image on the grid is unknown, or outside.
    """
    if same_crs(source.grid.crs, grid.crs):
        place = source.grid.place_of(grid)
        if place is not None:
            shared = place.clip(source.grid.height, source.grid.width)
            if not (shared.height and shared.width):
                raise _apart(source, grid)
            return source if place == source.grid.window else Cropped(source, place)
    return Resampled(source, grid, method)


class Resampled(Layer):
    """An image resampled to a grid, block by block."""

    def __init__(self, source: Layer, grid: Grid, method: str) -> None:
        super().__init__(
            grid, dtype=source.dtype, nodata=source.nodata, descriptions=source.descriptions, files=source.files
        )
        if (source.grid.crs is None) != (grid.crs is None):
            raise DataError(
                f"{source.files[0]}: cannot be resampled to the grid of the first layer, because one of them has no "
                f"CRS ({source.grid.describe()}; first layer: {grid.describe()}). Assign one, for example with "
                "`gdal_edit.py -a_srs`"
            )
        self._source = source
        self._method = Resampling[method]
        # Integers of at most 16 bits and float32 are exact in float32.
        exact = source.dtype.itemsize <= 2 or source.dtype == np.float32
        self._work = np.dtype(np.float32 if exact else np.float64)
        needed, self._ratio = _footprint(source, grid, grid.window)
        if not (needed.height and needed.width):
            raise _apart(source, grid)
        self._block_px = int(min(BLOCK_PX, max(8, SOURCE_PX // self._ratio)))
        self._blocks: OrderedDict[tuple[int, int], tuple[Image, Mask]] = OrderedDict()
        bytes_a_block = self.count * self._block_px**2 * (self.dtype.itemsize + 1)
        self._kept = max(1, CACHE_BYTES // bytes_a_block)

    def read_raw(self, window: Window) -> tuple[Image, Mask]:
        """Read a window; see `Layer.read_raw`."""
        shape = (self.count, window.height, window.width)
        image, valid = np.zeros(shape, dtype=self.dtype), np.zeros(shape, dtype=bool)
        part, size = window.clip(self.grid.height, self.grid.width), self._block_px
        if not (part.height and part.width):
            return image, valid
        for row in range(part.row // size, -(-part.row_stop // size)):
            for col in range(part.col // size, -(-part.col_stop // size)):
                block = Window(row * size, col * size, size, size).clip(self.grid.height, self.grid.width)
                shared = block.intersection(part)
                pixels, known = self._block(row, col, block)
                to, of = (slice(None), *shared.slices_in(window)), (slice(None), *shared.slices_in(block))
                image[to], valid[to] = pixels[of], known[of]
        return image, valid

    def sample_reads_all(self) -> bool:
        """Return True: blocks are resampled as a whole; see `Layer.sample_reads_all`."""
        return True

    def cache_bytes(self, rows: int, cols: int) -> int:
        """Return the bytes of decoded blocks; see `Layer.cache_bytes`."""
        rows, cols = (round((px + self._block_px) * self._ratio) for px in (rows, cols))
        return self._source.cache_bytes(rows, cols)

    def close(self) -> None:
        """Close all files."""
        self._source.close()

    def _block(self, row: int, col: int, block: Window) -> tuple[Image, Mask]:
        pixels = self._blocks.get((row, col))
        if pixels is None:
            pixels = self._warp(block)
            self._blocks[row, col] = pixels
            if len(self._blocks) > self._kept:
                self._blocks.popitem(last=False)
        else:
            self._blocks.move_to_end((row, col))
        return pixels

    def _warp(self, block: Window) -> tuple[Image, Mask]:
        shape = (self.count, block.height, block.width)
        needed, _ = _footprint(self._source, self.grid, block)
        if not (needed.height and needed.width):
            return np.zeros(shape, dtype=self.dtype), np.zeros(shape, dtype=bool)
        pixels, known = self._source.read(needed)
        reals = pixels.astype(self._work)
        reals[~known] = np.nan
        warped = np.full(shape, np.nan, dtype=self._work)
        there, here = self._source.grid.crop(needed), self.grid.crop(block)
        # Band by band: GDAL uses one mask for all bands if all have the same nodata value.
        for band in range(self.count):
            warp(
                reals[band],
                warped[band],
                src_transform=there.transform,
                src_crs=there.crs or _PLANE,
                src_nodata=np.nan,
                dst_transform=here.transform,
                dst_crs=here.crs or _PLANE,
                dst_nodata=np.nan,
                resampling=self._method,
            )
        valid = np.isfinite(warped)
        if self.dtype.kind in "iu":
            limits = np.iinfo(self.dtype)
            warped = np.rint(warped).clip(limits.min, limits.max)
        warped[~valid] = 0
        return warped.astype(self.dtype), valid


def _footprint(source: Layer, grid: Grid, window: Window) -> tuple[Window, float]:
    """Return the window of `source` needed for a window of `grid`, and the ratio of their pixel sizes."""
    ticks = np.linspace(0, 1, 9)
    x, y = np.meshgrid(window.col + ticks * window.width, window.row + ticks * window.height)
    map_x, map_y = grid.to_map(x.ravel(), y.ravel())
    if grid.crs is not None and source.grid.crs is not None:
        map_x, map_y = reproject(source.files[0], grid.crs, source.grid.crs, map_x, map_y)
    cols, rows = (np.asarray(values).reshape(9, 9) for values in source.grid.to_pixel(map_x, map_y))
    ratio = max(_step(cols, rows, 1) / window.width, _step(cols, rows, 0) / window.height)
    margin = int(np.ceil(_REACH_PX * max(1.0, ratio)))
    row, col = int(np.floor(rows.min())) - margin, int(np.floor(cols.min())) - margin
    row_stop, col_stop = int(np.ceil(rows.max())) + margin, int(np.ceil(cols.max())) + margin
    return Window(row, col, row_stop - row, col_stop - col).clip(source.grid.height, source.grid.width), ratio


def _step(cols: NDArray[np.float64], rows: NDArray[np.float64], axis: int) -> float:
    """Return the longest way from one end of the window to the other, in pixels of the source."""
    return float(8 * np.hypot(np.diff(cols, axis=axis), np.diff(rows, axis=axis)).max())


def _apart(source: Layer, grid: Grid) -> DataError:
    return DataError(
        f"{source.files[0]}: shares no pixel with the first layer ({source.grid.describe()}; first layer: "
        f"{grid.describe()}; {crs_name(grid.crs)})"
    )
