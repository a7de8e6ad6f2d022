"""The features stage: an encoder applied to all of a scene, tile by tile.

Tiles are whole blocks of a fixed grid, read with a margin and mirrored at the edges of the scene, so the result depends
neither on memory nor on the number of threads. Images of 8 bits are scaled by 255; all others, band by band, from the
1st to the 99th percentile of the scene's own pixels: so features depend on the image alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from rvbuild.cores import thread_count
from rvbuild.errors import DataError
from rvbuild.geo.raster.open import SceneImage, open_scene_image
from rvbuild.geo.raster.stats import BandCounter
from rvbuild.geo.windows import Window, bands
from rvbuild.learn.encoders.encoder import Features, Floats, Quantized
from rvbuild.learn.encoders.open import open_encoder
from rvbuild.learn.encoders.pooling import reflected
from rvbuild.progress import Progress
from rvbuild.stages.draft.cells import DESCRIPTION, FEATURES, VALID, Cells, description
from rvbuild.stages.draft.settings import FeaturesSettings
from rvbuild.stages.threads.block_cache import block_cache
from rvbuild.stages.threads.read_ahead import read_ahead

TILE_PX = 512
"""The side of a tile, about."""

LOW, HIGH = 0.01, 0.99
"""The quantiles that become 0 and 1."""

_ROWS = 256
"""Rows that are read at once for quantiles."""


class _Tile(NamedTuple):
    """The blocks of a tile."""

    row: int
    col: int
    rows: int
    cols: int
    """All in blocks."""


class _Scale(NamedTuple):
    """What becomes 0 and 1, (C, 1, 1) each."""

    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]

    def __call__(self, image: npt.NDArray[np.generic]) -> Floats:
        """Return an image (C, H, W) as numbers from 0 to 1."""
        scaled = (image.astype(np.float64) - self.low) / (self.high - self.low)
        return np.clip(scaled, 0, 1).astype(np.float32)


def run(inputs: Mapping[str, Sequence[Path]], settings: FeaturesSettings, outputs: Path, progress: Progress) -> None:
    """Write the features of one scene.

    Parameters
    ----------
    inputs
        `image`: the files of the scene; `weights`: the file of the encoder's, or none.
    settings
        image, channels, encoder, block_px.
    outputs
        Receives `features.npy`, `features.json` and, if some pixels have no data, `valid.npy`; see
        `rvbuild.stages.draft.cells`.
    progress
        Receives progress, in tiles.

    Raises
    ------
    DataError
        The image cannot be read, or a band has one value alone.
    ModelError
        The encoder's weights cannot be read or downloaded, or are not its own.
    """
    with open_scene_image(inputs["image"], settings) as source:
        grid, count, rows = source.grid, source.count, 2 * TILE_PX
        cells = Cells(grid.height, grid.width, settings["encoder"]["stride_px"], settings["block_px"])
        threads = thread_count()
        with block_cache(source, _ROWS):
            scale = _scale(source)
        cache = block_cache(source, rows, readers=threads)
    weights = inputs.get("weights", ())
    encoder = open_encoder(settings["encoder"], weights[0] if weights else None, count, progress.note)
    names = encoder.encoder.names
    tiles = _tiles(cells, encoder)

    def compute(image: SceneImage, tile: _Tile) -> tuple[Features, npt.NDArray[np.bool_]]:
        return _compute(image, cells, encoder, scale, tile)

    progress.start("encode", len(tiles), "tiles")
    block_bytes = cells.side**2 * len(names)
    shape = (cells.rows * cells.cols, cells.side**2, len(names))
    results = read_ahead(
        lambda: open_scene_image(inputs["image"], settings), compute, tiles, threads=threads, depth=threads
    )
    with cache, (outputs / FEATURES).open("wb") as file, (outputs / VALID).open("wb") as mask:
        _header(file, shape, np.dtype(np.int8))
        _header(mask, (cells.height, -(-cells.width // 8)), np.dtype(np.uint8))
        start, strip, whole = file.tell(), list[npt.NDArray[np.bool_]](), True
        for tile, (blocks, valid) in zip(tiles, results, strict=True):
            for row in range(tile.rows):
                file.seek(start + ((tile.row + row) * cells.cols + tile.col) * block_bytes)
                file.write(blocks[row * tile.cols : (row + 1) * tile.cols].tobytes())
            strip.append(valid)
            whole = whole and bool(valid.all())
            if tile.col + tile.cols == cells.cols:
                mask.write(np.packbits(np.concatenate(strip, axis=1), axis=1).tobytes())
                strip.clear()
            progress.advance()
    if whole:
        (outputs / VALID).unlink()
    text = json.dumps(description(cells, names, grid), sort_keys=True, allow_nan=False)
    (outputs / DESCRIPTION).write_text(text + "\n", encoding="utf-8")


def _tiles(cells: Cells, encoder: Quantized) -> list[_Tile]:
    """Return tiles of whole blocks, row by row."""
    least = math.lcm(cells.block_px, encoder.encoder.multiple_px)
    side = -(-TILE_PX // least) * least // cells.block_px
    return [
        _Tile(row, col, min(side, cells.rows - row), min(side, cells.cols - col))
        for row in range(0, cells.rows, side)
        for col in range(0, cells.cols, side)
    ]


def _compute(
    source: SceneImage, cells: Cells, encoder: Quantized, scale: _Scale, tile: _Tile
) -> tuple[Features, npt.NDArray[np.bool_]]:
    """Return the features (blocks, cells of a block, F) of a tile, and which of its pixels have data (h, w)."""
    margin, multiple, block = encoder.encoder.margin_px, encoder.encoder.multiple_px, cells.block_px
    margin = -(-margin // multiple) * multiple
    inside = Window(tile.row * block, tile.col * block, tile.rows * block, tile.cols * block)
    inside = inside.clip(cells.height, cells.width)
    height, width = (-(-length // multiple) * multiple + 2 * margin for length in (inside.height, inside.width))
    around = Window(inside.row - margin, inside.col - margin, height, width)
    seen = around.clip(cells.height, cells.width)
    pixels, valid = source.read(seen)
    image = reflected(scale(pixels), (seen.row - around.row, seen.col - around.col), (height, width))
    maps = encoder(np.ascontiguousarray(image))
    side, first = cells.side, margin // cells.stride_px
    found = np.zeros((tile.rows * side, tile.cols * side, maps.shape[2]), dtype=np.int8)
    rows, cols = (-(-length // cells.stride_px) for length in (inside.height, inside.width))
    found[:rows, :cols] = maps[first : first + rows, first : first + cols]
    blocks = found.reshape(tile.rows, side, tile.cols, side, -1).swapaxes(1, 2)
    known = np.any(valid[(slice(None), *inside.slices_in(seen))], axis=0)
    return blocks.reshape(tile.rows * tile.cols, side * side, -1), known


def _scale(source: SceneImage) -> _Scale:
    """Return what becomes 0 and 1 in each band."""
    shape = (source.count, 1, 1)
    if source.dtype == np.uint8:
        return _Scale(np.zeros(shape), np.full(shape, 255.0))
    counters = [BandCounter(source.dtype) for _ in range(source.count)]
    for window in bands(source.grid.height, source.grid.width, _ROWS):
        image, valid = source.read(window)
        for counter, band, known in zip(counters, image, valid, strict=True):
            counter.add(band[known])
    limits: list[tuple[float, float]] = []
    for number, counter in enumerate(counters):
        stats = counter.result()
        if stats.min is None or stats.max is None or not stats.max > stats.min:
            raise DataError(
                f"{source.files[0]}: band {number} (in the order of `channels`) has one value alone, or none; leave it "
                "out with `channels`"
            )
        low, high = (stats.histogram.quantile(share, stats.min, stats.max) for share in (LOW, HIGH))
        limits.append((low, high) if high > low else (float(stats.min), float(stats.max)))
    low_values, high_values = (
        np.array(values, dtype=np.float64).reshape(shape) for values in zip(*limits, strict=True)
    )
    return _Scale(low_values, high_values)


def _header(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
    """Write the header of an array whose data follow."""
    np.lib.format.write_array_header_1_0(
        file, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    )
