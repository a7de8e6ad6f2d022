"""Writing of Cloud Optimized GeoTIFFs, block by block.

Rows are written as they come, from top to bottom, into a tiled temporary file. Closing copies it to the final file,
with overviews. Rows that wait until a row of tiles is complete are in memory, or in another file if they are long: peak
memory grows neither with the height nor with the width of a scene.
"""

from __future__ import annotations

import functools
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow

from rvbuild.cores import cores
from rvbuild.geo.gdal.environment import not_georeferenced_is_fine
from rvbuild.geo.grid import Grid
from rvbuild.geo.windows import Window
from rvbuild.geo.write.columns import Columns

not_georeferenced_is_fine()

TILE_COLS = 512
"""The width of a tile, and in the final file its height."""

TILE_ROWS = 128
"""Rows that are gathered before they are written, and the height of a tile of the temporary file: whole tiles are
written once, never read back and compressed again."""

_WRITE_COLS = 16 * TILE_COLS
"""Columns that are written at once."""

COPY_CACHE_BYTES = 16 << 20
"""Size of GDAL's block cache for the final file: each block is read once, so more would not help."""


ENV = {"GDAL_TIFF_INTERNAL_MASK": "YES", "GDAL_PAM_ENABLED": "NO"}


def cog_options(resampling: str) -> dict[str, Any]:
    """Return the options of GDAL's COG driver, without a predictor."""
    return {
        "blocksize": TILE_COLS,
        "compress": "deflate",
        "overview_resampling": resampling,
        "bigtiff": "if_safer",
        # Pixels are copied, never warped; statistics would be an extra pass and a source of difference.
        "statistics": "no",
        # The same bytes as with one thread.
        "num_threads": str(cores()),
    }


def placed(grid: Grid) -> dict[str, Any]:
    """Return the options of rasterio for the size and the place of a raster."""
    profile: dict[str, Any] = {"height": grid.height, "width": grid.width}
    if grid.crs is not None:
        profile["crs"] = grid.crs
    if not grid.transform.is_identity:
        profile["transform"] = grid.transform
    return profile


def tiled(grid: Grid, count: int, dtype: str, nodata: float | None) -> dict[str, Any]:
    """Return the options of rasterio for a file whose rows are written from top to bottom."""
    profile: dict[str, Any] = {
        "driver": "GTiff",
        **placed(grid),
        "count": count,
        "dtype": dtype,
        "tiled": True,
        "blockxsize": TILE_COLS,
        "blockysize": TILE_ROWS,
        "compress": "deflate",
        "zlevel": 1,
        "bigtiff": "if_safer",
    }
    if nodata is not None:
        profile["nodata"] = nodata
    return profile


class _Waiting:
    """The rows that wait until a row of tiles is complete."""

    def __init__(self, count: int, dtype: str, masked: bool, width: int, folder: Path) -> None:
        self.values = Columns(count, TILE_ROWS, width, dtype, folder)
        self.mask = Columns(1, TILE_ROWS, width, bool, folder) if masked else None


class CogWriter:
    """Streams rows of a raster into a temporary GeoTIFF and creates a COG from it."""

    def __init__(
        self,
        path: Path,
        grid: Grid,
        *,
        temp: Path,
        count: int,
        dtype: str,
        nodata: float | None,
        masked: bool,
        resampling: str,
        predictor: bool,
    ) -> None:
        self.path, self.grid = path, grid
        self._temp = temp / f"{path.name}.tmp" if temp.is_dir() else temp
        self._options = cog_options(resampling)
        if predictor:
            self._options["predictor"] = "yes"
        self._masked = masked
        self._count, self._dtype = count, dtype
        profile = tiled(grid, count, dtype, nodata)
        if count > 1 or masked:
            profile["photometric"] = "rgb" if masked and count == 3 and dtype == "uint8" else "minisblack"
        self._env = ENV
        with rasterio.Env(**self._env):
            self._file = rasterio.open(self._temp, "w", **profile)
        folder = temp if temp.is_dir() else temp.parent
        self._empty = functools.partial(_Waiting, count, dtype, masked, grid.width, folder)
        self._waiting: dict[int, _Waiting] = {}
        """By number of a row of tiles: the rows of it that were given."""
        self._spare: list[_Waiting] = []
        self._given = Window(0, 0, 0, 0)
        """The rows that blocks are given of, with the columns that they were given for."""
        self._written = 0
        """Rows of tiles."""

    def _append(self, row0: int, data: NDArray[Any], mask: NDArray[np.bool_] | None, col0: int = 0) -> None:
        """Add the next block: (C, h, w) data and, if the raster is masked, (h, w) bool.

        Blocks of the same rows come from left to right.
        """
        height, width = data.shape[-2:]
        before = self._given
        begins = before.col_stop in (0, self.grid.width)
        row, col = (before.row_stop, 0) if begins else (before.row, before.col_stop)
        fits = len(data) == self._count and col0 + width <= self.grid.width and (begins or height == before.height)
        if (row0, col0) != (row, col) or not fits:
            raise ValueError(
                f"{self.path.name}: expected rows from {row}, columns from {col} of {self.grid.width}, of "
                f"{self._count} bands, got row {row0}, column {col0} of shape {data.shape}"
            )
        for tiles in range(row0 // TILE_ROWS, -(-(row0 + height) // TILE_ROWS)):
            first = tiles * TILE_ROWS
            begin, end = max(row0, first), min(row0 + height, first + TILE_ROWS)
            here, there = slice(begin - first, end - first), slice(begin - row0, end - row0)
            waiting = self._buffer(tiles)
            waiting.values.write(here, col0, data[:, there])
            if waiting.mask is not None and mask is not None:
                waiting.mask.write(here, col0, mask[np.newaxis, there])
        self._given = Window(row0, 0, height, col0 + width)
        if col0 + width == self.grid.width:
            while (self._written + 1) * TILE_ROWS <= row0 + height:
                self._flush(TILE_ROWS)

    def _buffer(self, tiles: int) -> _Waiting:
        """Return the rows that wait in a row of tiles."""
        if tiles not in self._waiting:
            self._waiting[tiles] = self._spare.pop() if self._spare else self._empty()
        return self._waiting[tiles]

    def _flush(self, rows: int) -> None:
        """Write the next row of tiles."""
        waiting = self._waiting.pop(self._written)
        row, self._written = self._written * TILE_ROWS, self._written + 1
        with rasterio.Env(**self._env):
            for col in range(0, self.grid.width, _WRITE_COLS):
                stop = min(col + _WRITE_COLS, self.grid.width)
                where = RasterioWindow(col, row, stop - col, rows)
                self._file.write(waiting.values.read(slice(0, rows), col, stop), window=where)
                if waiting.mask is not None:
                    self._file.write_mask(waiting.mask.read(slice(0, rows), col, stop)[0], window=where)
        self._spare.append(waiting)

    def close(self) -> None:
        """Finish the file.

        Raises
        ------
        ValueError
            Not all rows were written.
        """
        if self._file.closed:
            return
        try:
            rows = self._given.row_stop if self._given.col_stop == self.grid.width else self._given.row
            if rows != self.grid.height:
                raise ValueError(f"{self.path.name}: {rows} of {self.grid.height} rows were written")
            if rest := rows - self._written * TILE_ROWS:
                self._flush(rest)
            with rasterio.Env(**self._env, GDAL_CACHEMAX=COPY_CACHE_BYTES):
                self._file.close()
                self._publish()
        finally:
            self.discard()

    def _publish(self) -> None:
        """Make the final file of the complete temporary one."""
        rasterio.shutil.copy(self._temp, self.path, driver="COG", **self._options)

    def discard(self) -> None:
        """Abort: remove the temporary file, without creating the final file."""
        if not self._file.closed:
            with rasterio.Env(**self._env):
                self._file.close()
        self._temp.unlink(missing_ok=True)
        self._waiting.clear()
        self._spare.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.discard()
