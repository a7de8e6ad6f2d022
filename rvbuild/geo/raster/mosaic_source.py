"""The imagery of a scene: one raster file, or several that are read as one mosaic."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rvbuild.errors import DataError
from rvbuild.geo.grid import Grid, crs_name, same_crs
from rvbuild.geo.raster.bands import Bands, read_bands, select_bands
from rvbuild.geo.raster.file import Image, Mask, grid_of, open_dataset
from rvbuild.geo.raster.layer import Layer, without_nodata
from rvbuild.geo.raster.nodata import NodataSetting
from rvbuild.geo.raster.tags import STORED, Apply, alphas_of, looks_like_alpha
from rvbuild.geo.sample import parts, sampled
from rvbuild.geo.windows import Window

MAX_OPEN_FILES = 32
"""Files of a mosaic that are open at one time."""

KEEP_ROW_BYTES = 256 << 20
"""Blocks of a wide scene that take more are not kept until the next row of windows, which decodes some of them again.
That costs little if blocks are smaller than windows. Larger ones, such as strips, would be decoded again for each."""

KEEP_WINDOWS = 4
"""So many windows side by side find the blocks that they share."""

MOSAIC_TOLERANCE_PX = 0.1
"""Tolerance of the alignment of a mosaic's files with the pixel grid of the first. World files round their numbers."""


@dataclass(frozen=True)
class _Tile:
    """A file and its place in the scene."""

    path: Path
    window: Window
    bands: Bands


class RasterSource(Layer):
    """The imagery of a scene, read window by window.

    Made by `open_image`; a context manager. Not thread-safe: open one for each thread. Dtype, nodata and what bands are
    called are those of the first file; of the files, a later one lies over an earlier one.
    """

    def __init__(self, grid: Grid, tiles: Sequence[_Tile]) -> None:
        bands = tiles[0].bands
        super().__init__(
            grid,
            dtype=bands.dtype,
            nodata=bands.nodata,
            descriptions=bands.descriptions,
            files=tuple(tile.path for tile in tiles),
        )
        self._tiles = tuple(tiles)
        places = [tile.window for tile in tiles]
        self._bounds = np.array([(w.row, w.col, w.row_stop, w.col_stop) for w in places], dtype=np.int64).T
        self._open: OrderedDict[Path, Any] = OrderedDict()

    def read_raw(self, window: Window) -> tuple[Image, Mask]:
        """Read a window; see `Layer.read_raw`."""
        tile = self._tile_of(window)
        if tile is not None:
            image, valid = self._read_tile(tile, window)
            return image, np.ones(image.shape, dtype=bool) if valid is None else np.array(valid)
        image, valid = self._compose(window, self._touched(window))
        return image, np.ones(image.shape, dtype=bool) if valid is None else valid

    def read_data(self, window: Window) -> tuple[Image, Mask | None]:
        """Read a window; see `Layer.read_data`. Where the file alone says that all is valid, no mask is made."""
        tile = self._tile_of(window)
        if tile is not None:
            return without_nodata(*self._read_tile(tile, window))
        return without_nodata(*self._compose(window, self._touched(window)))

    def read_sample(self, window: Window, step: int) -> tuple[Image, Mask]:
        """Read a sample of a window; see `Layer.read_sample`. GDAL takes it from an overview, or of fewer rows."""
        tile = self._tile_of(window)
        if step == 1 or tile is None:
            return self.read_raw(window) if step == 1 else super().read_sample(window, step)
        rows, cols = sampled(window, step)
        image = np.zeros((self.count, len(rows), len(cols)), dtype=self.dtype)
        valid = np.ones(image.shape, dtype=bool)
        # GDAL spaces pixels evenly: what is left over at the edges is read by itself.
        for row, row_stop in parts(window.row, window.row_stop, step):
            for col, col_stop in parts(window.col, window.col_stop, step):
                part = Window(row, col, row_stop - row, col_stop - col)
                shape = (-(-part.height // step), -(-part.width // step))
                pixels, known = self._read_tile(tile, part, shape)
                top, left = (row - window.row) // step, (col - window.col) // step
                there = (slice(None), slice(top, top + shape[0]), slice(left, left + shape[1]))
                image[there] = pixels
                if known is not None:
                    valid[there] = known
        return image, valid

    def sample_reads_all(self) -> bool:
        """Tell whether a coarse sample costs all pixels; see `Layer.sample_reads_all`. The first file is typical."""
        dataset = self._dataset(self._tiles[0].path)
        in_tiles = dataset.block_shapes[0][1] < dataset.width
        return in_tiles and (len(self._tiles) > 1 or not dataset.overviews(1))

    def cache_bytes(self, rows: int, cols: int) -> int:
        """Return the bytes of decoded blocks; see `Layer.cache_bytes`. The first file is typical."""
        tile = self._tiles[0]
        dataset = self._dataset(tile.path)
        block: tuple[int, int] = dataset.block_shapes[0]
        block_rows, block_cols = block
        # GDAL decodes all bands of a block, chosen or not, if the file interleaves them by pixel.
        col_bytes: int = (rows + 2 * block_rows) * dataset.count * tile.bands.stored.itemsize

        def touched(cols: int) -> int:
            return col_bytes * min(self.grid.width, cols + 2 * block_cols)

        # Other formats may tell of blocks that are not those that they store: a VRT of a file in strips does.
        small = dataset.driver == "GTiff" and max(block_rows, block_cols) <= rows
        if small and touched(cols) > KEEP_ROW_BYTES:
            return touched(KEEP_WINDOWS * rows)
        return touched(cols)

    def close(self) -> None:
        """Close all files."""
        while self._open:
            self._open.popitem()[1].close()

    def _tile_of(self, window: Window) -> _Tile | None:
        """Return the file that a window lies in, if it shares pixels with no other one."""
        if len(self._tiles) == 1:
            return self._tiles[0] if window.inside(self.grid.height, self.grid.width) else None
        tiles = self._touched(window)
        return tiles[0] if len(tiles) == 1 and window.intersection(tiles[0].window) == window else None

    def _touched(self, window: Window) -> list[_Tile]:
        """Return the files that share pixels with a window, in order."""
        row, col, row_stop, col_stop = self._bounds
        touched = (row < window.row_stop) & (row_stop > window.row) & (col < window.col_stop) & (col_stop > window.col)
        return [self._tiles[index] for index in np.flatnonzero(touched)]

    def _read_tile(
        self, tile: _Tile, window: Window, shape: tuple[int, int] | None = None
    ) -> tuple[Image, Mask | None]:
        """Read the part of a scene's window that lies inside a file, as so many rows and columns if that is less."""
        row, col = window.row - tile.window.row, window.col - tile.window.col
        inside = Window(row, col, window.height, window.width)
        return read_bands(tile.path, self._dataset(tile.path), tile.bands, inside, shape)

    def _compose(self, window: Window, tiles: Sequence[_Tile]) -> tuple[Image, Mask | None]:
        """Read a window from the files that it overlaps; only valid pixels cover those of earlier files.

        The mask is None if the files cover the window, and all their values are valid.
        """
        shape = (self.count, window.height, window.width)
        image, covered = np.zeros(shape, dtype=self.dtype), np.zeros(shape[1:], dtype=bool)
        valid: Mask | None = None
        for tile in tiles:
            part = window.intersection(tile.window)
            pixels, data = self._read_tile(tile, part)
            rows, cols = part.slices_in(window)
            if data is not None and valid is None:
                valid = np.repeat(covered[np.newaxis], self.count, axis=0)
            if data is None or valid is None:
                image[:, rows, cols], covered[rows, cols] = pixels, True
                if valid is not None:
                    valid[:, rows, cols] = True
                continue
            there, known = image[:, rows, cols], valid[:, rows, cols]
            if self.dtype.kind == "f":
                np.copyto(there, pixels, where=np.isnan(pixels) & ~known)
            np.copyto(there, pixels, where=data)
            known |= data
        if valid is None and not covered.all():
            valid = np.repeat(covered[np.newaxis], self.count, axis=0)
        return image, valid

    def _dataset(self, path: Path) -> Any:
        dataset = self._open.get(path)
        if dataset is None:
            dataset = open_dataset(path)
            self._open[path] = dataset
            if len(self._open) > MAX_OPEN_FILES:
                self._open.popitem(last=False)[1].close()
        elif len(self._tiles) > 1:
            self._open.move_to_end(path)
        return dataset


def open_image(
    files: Sequence[Path],
    *,
    nodata: NodataSetting = None,
    channels: Sequence[int] | None = None,
    apply: Apply = STORED,
) -> RasterSource:
    """Open the imagery of a scene.

    Parameters
    ----------
    files
        One raster, or several that are read as one mosaic: later files cover earlier ones where they hold data.
    nodata
        Overrides the files' own nodata: one value, or one per band of the file (alpha may be left out).
    channels
        Bands to read, indices from 0, in this order; None: all that are not alpha. An alpha band that is not read says
        which pixels are valid.
    apply
        What is done with what tags say of the values. A band that is called alpha and does not look like it is no
        alpha, unless this says so.

    Raises
    ------
    DataError
        A file cannot be opened, a channel does not exist, or the files of a mosaic differ in CRS, pixel size, number
        of bands or dtype, or lie on no common pixel grid.
    """
    if not files:
        raise DataError("expected at least one image file, found none")
    tiles: list[_Tile] = []
    first: Grid | None = None
    for path in files:
        with open_dataset(path) as dataset:
            grid = grid_of(path, dataset)
            if apply.alpha is None and set(alphas_of(dataset)).difference(channel + 1 for channel in channels or ()):
                apply = replace(apply, alpha=looks_like_alpha(files, open_dataset))
            bands = select_bands(path, dataset, channels, nodata, apply)
        if first is None:
            first = grid
            tiles.append(_Tile(path, grid.window, bands))
        else:
            _require_alike(tiles[0], first, path, grid, bands)
            tiles.append(_Tile(path, _place(tiles[0].path, first, path, grid), bands))
    assert first is not None
    return RasterSource(*_union(first, tiles))


def _union(first: Grid, tiles: list[_Tile]) -> tuple[Grid, list[_Tile]]:
    """Return the grid of all tiles together, and the tiles with their places on it."""
    row, col = min(tile.window.row for tile in tiles), min(tile.window.col for tile in tiles)
    row_stop, col_stop = max(tile.window.row_stop for tile in tiles), max(tile.window.col_stop for tile in tiles)
    transform = first.transform_at(row, col)
    moved = [
        _Tile(tile.path, tile.window._replace(row=tile.window.row - row, col=tile.window.col - col), tile.bands)
        for tile in tiles
    ]
    return Grid(row_stop - row, col_stop - col, transform, first.crs, first.placed_by), moved


def _require_alike(tile: _Tile, first: Grid, path: Path, grid: Grid, bands: Bands) -> None:
    """Raise a DataError that names both files if `path` cannot be in one mosaic with the first file."""
    pairs: list[tuple[str, object, object]] = []
    if not same_crs(first.crs, grid.crs):
        pairs.append(("CRS", crs_name(first.crs), crs_name(grid.crs)))
    if len(tile.bands.descriptions) != len(bands.descriptions):
        pairs.append(("number of bands", len(tile.bands.descriptions), len(bands.descriptions)))
    if tile.bands.dtype != bands.dtype:
        pairs.append(("dtype", tile.bands.dtype, bands.dtype))
    one, other = (np.array([t.a, t.b, t.d, t.e]) for t in (first.transform, grid.transform))
    drift = np.abs(one - other).max() * max(grid.height, grid.width)
    if drift > MOSAIC_TOLERANCE_PX * np.abs(one).max():
        mine, theirs = (" x ".join(f"{value:.10g}" for value in linear[[0, 3]]) for linear in (one, other))
        pairs.append(("pixel size", mine, theirs))
    if pairs:
        difference = "; ".join(f"{name}: {a} in the first, {b} in the second" for name, a, b in pairs)
        raise DataError(
            f"{tile.path} and {path} cannot be one mosaic: {difference}. Convert them, or make them two scenes"
        )


def _place(first_path: Path, first: Grid, path: Path, grid: Grid) -> Window:
    """Return the place of `path` on the pixel grid of the first file."""
    if first.transform.is_identity and grid.transform.is_identity:
        raise DataError(
            f"{first_path} and {path} cannot be one mosaic: neither is georeferenced, so both lie at (0, 0)"
        )
    x, y = (float(v[0]) for v in first.to_pixel(np.array([grid.transform.c]), np.array([grid.transform.f])))
    col, row = round(x), round(y)
    if max(abs(x - col), abs(y - row)) > MOSAIC_TOLERANCE_PX:
        raise DataError(
            f"{first_path} and {path} cannot be one mosaic: the second starts at column {_tidy(x)}, row {_tidy(y)} of "
            "the first, not at a whole pixel. Warp it to the same grid, for example with `gdalwarp -tap`"
        )
    return Window(row, col, grid.height, grid.width)


def _tidy(value: float) -> str:
    """Return a place in pixels for messages, without a sign for a rounded zero."""
    return f"{round(value, 3) + 0.0:.3f}"
