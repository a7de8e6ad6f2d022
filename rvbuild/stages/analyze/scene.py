"""Stage analyze, for one scene: exact statistics of every band over the scene's valid pixels."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import rasterio

from rvbuild.errors import DataError
from rvbuild.geo.area.aoi import Part, open_aoi
from rvbuild.geo.area.blocks import Blocks
from rvbuild.geo.grid import Grid
from rvbuild.geo.raster.open import open_scene_image
from rvbuild.geo.raster.stats import BandCounter, BandStats, ImageFigures
from rvbuild.geo.windows import Window
from rvbuild.progress import Progress
from rvbuild.stages.analyze.settings import SceneStatsSettings
from rvbuild.stages.cut import require_rows

BLOCK_PX = 256
"""Side of the blocks; a sample consists of whole blocks."""

CACHE_BYTES = 64 << 20
"""Number of decoded blocks in GDAL's cache."""

_BAND_COLS = 4096
"""Columns that are read at once: with BLOCK_PX rows, so memory does not grow with the scene."""


def run(inputs: Mapping[str, Sequence[Path]], settings: SceneStatsSettings, outputs: Path, progress: Progress) -> None:
    """Write `stats.json`: count, moments, range and histogram of each band.

    Parameters
    ----------
    inputs
        `image`: the files of the scene; `aoi`: none or more, if several splits share the scene.
    settings
        How the image is read, which share of it is used, and the blocks that count if several splits share the scene.

    Notes
    -----
    A band without a valid pixel has count 0 here; the merged statistics refuse a band that no scene has.
    """
    counters, dtype = count(inputs, settings, progress)
    write_stats(outputs / "stats.json", [counter.result() for counter in counters], dtype)


def count(
    inputs: Mapping[str, Sequence[Path]],
    settings: SceneStatsSettings,
    progress: Progress,
    rows: tuple[int, int] | None = None,
) -> tuple[list[BandCounter], str]:
    """Return the counter of each band, of all windows of a scene or of those in some rows, and the dtype.

    Parameters
    ----------
    inputs, settings
        See `run`.
    progress
        Receives progress, in windows.
    rows
        The first row of a strip, a multiple of `BLOCK_PX`, and the one after its last.

    Raises
    ------
    DataError
        Values are too large, or the image does not have the rows.
    """
    with (
        rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES),
        open_scene_image(inputs["image"], settings) as source,
    ):
        part, grid = _part(inputs, settings, source.grid), source.grid
        windows = blocks(grid.height, grid.width, settings["sample"], settings["seed"], part)
        if rows is not None:
            require_rows(inputs["image"], grid, rows[1])
            windows = [window for window in windows if rows[0] <= window.row < rows[1]]
        counters = [BandCounter(source.dtype) for _ in range(source.count)]
        progress.start("analyze", len(windows), "windows")
        for window in windows:
            image, valid = source.read(window)
            if part is not None and not part.contains(window):
                valid = valid & part.mask(window)
            for counter, band, known in zip(counters, image, valid, strict=True):
                counter.add(band.ravel() if known.all() else band[known])
            progress.advance()
        require_finite(source.files[0], [counter.result() for counter in counters])
        return counters, str(source.dtype)


def require_finite(path: Path, bands: Sequence[BandStats]) -> None:
    """Raise a DataError if values of a band are too large for statistics."""
    for index, band in enumerate(bands):
        if not (math.isfinite(band.mean) and math.isfinite(band.m2)):
            raise DataError(
                f"{path}: band {index} (in the order of `channels`) holds values from {band.min} to {band.max}, too "
                "large for statistics. If they mean nodata, set `nodata` in `image`"
            )


def blocks(height: int, width: int, sample: float, seed: int, part: Blocks | None = None) -> list[Window]:
    """Return the windows to read, row by row: all of the scene or part, or a seeded sample of at least one block."""
    every = _partition(height, width, BLOCK_PX if sample < 1 else _BAND_COLS)
    if part is not None:
        every = [window for window in every if part.windows(window)]
    if sample >= 1:
        return every
    wanted = max(1, round(sample * len(every)))
    chosen = np.random.default_rng(seed).choice(len(every), size=wanted, replace=False)
    return [every[index] for index in sorted(chosen.tolist())]


def write_stats(path: Path, bands: Sequence[BandStats], dtype: str) -> None:
    """Write statistics as JSON with sorted keys and the shortest exact floats."""
    value: ImageFigures = {"bands": [band.to_json() for band in bands], "dtype": dtype}
    path.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def _part(inputs: Mapping[str, Sequence[Path]], settings: SceneStatsSettings, grid: Grid) -> Blocks | None:
    """Return the blocks of the scene that count, or None for all of it."""
    if "area" not in settings:
        return None
    part = open_aoi(inputs.get("aoi", ()), grid, settings["area"])
    return part.blocks if isinstance(part, Part) else None


def _partition(height: int, width: int, cols: int) -> list[Window]:
    return [
        Window(row, col, min(BLOCK_PX, height - row), min(cols, width - col))
        for row in range(0, height, BLOCK_PX)
        for col in range(0, width, cols)
    ]
