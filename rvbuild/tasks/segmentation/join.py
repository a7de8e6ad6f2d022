"""The raw results of a scene by several models, each of other pixels, as one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import rasterio
from rasterio.windows import Window

from rvbuild.errors import DataError
from rvbuild.geo.classes import NODATA
from rvbuild.geo.grid import Grid
from rvbuild.geo.raster.file import grid_of, open_dataset
from rvbuild.geo.write.rasters import IdRasterWriter, ScoreRasterWriter
from rvbuild.progress import Progress
from rvbuild.settings.classes import ClassName
from rvbuild.tasks.metrics.tables import without_null
from rvbuild.tasks.segmentation.merge import RAW_LABELS, SCORES
from rvbuild.tasks.segmentation.settings import SegmentationDeriveSettings
from rvbuild.tasks.segmentation.strips import CACHE_BYTES, COLS, ROWS


def join(
    parts: Sequence[Mapping[str, Path]], settings: SegmentationDeriveSettings, outputs: Path, progress: Progress
) -> None:
    """Write `raw_labels.tif`, and `scores.tif` if the parts have it; see `rvbuild.tasks.protocol.Task.join`."""
    grid = _join_labels([part[RAW_LABELS] for part in parts], outputs, progress)
    if all(SCORES in part for part in parts):
        classes = cast("list[ClassName]", without_null(settings["classes"], settings["null_id"]))
        _join_scores([part[SCORES] for part in parts], grid, outputs, classes)


def _join_labels(paths: Sequence[Path], outputs: Path, progress: Progress) -> Grid:
    with open_dataset(paths[0]) as dataset:
        grid = grid_of(paths[0], dataset)
    for path in paths[1:]:
        with open_dataset(path) as dataset:
            if (dataset.height, dataset.width) != (grid.height, grid.width):
                raise DataError(f"{path}: the folds of a scene have rasters of different sizes; build the folds again")
    progress.start("join folds", grid.height, "rows")
    with _opened(paths) as datasets, IdRasterWriter(outputs / RAW_LABELS, grid, temp=outputs) as writer:
        for window in _windows(grid):
            ids = np.full((window.height, window.width), NODATA, dtype=np.uint8)
            for path, dataset in zip(paths, datasets, strict=True):
                part = dataset.read(1, window=window)
                known = part != NODATA
                if (ids[known] != NODATA).any():
                    raise DataError(f"{path}: a pixel is predicted in two folds; build the folds again")
                ids[known] = part[known]
            writer.write(window.row_off, ids, window.col_off)
            if window.col_off + window.width == grid.width:
                progress.advance(window.height)
    return grid


def _join_scores(paths: Sequence[Path], grid: Grid, outputs: Path, classes: Sequence[ClassName]) -> None:
    with _opened(paths) as datasets:
        kind = datasets[0].dtypes[0]
        fill = 0 if kind == "uint8" else np.nan
        with ScoreRasterWriter(outputs / SCORES, grid, classes, kind, temp=outputs) as writer:
            for window in _windows(grid):
                values = np.full((len(classes), window.height, window.width), fill, dtype=kind)
                predicted = np.zeros((window.height, window.width), dtype=np.bool_)
                for dataset in datasets:
                    part = dataset.read(window=window)
                    is_known = (
                        dataset.dataset_mask(window=window) > 0 if kind == "uint8" else ~np.isnan(part).any(axis=0)
                    )
                    values[:, is_known] = part[:, is_known]
                    predicted |= is_known
                writer.write_encoded(window.row_off, values, predicted, window.col_off)


@contextlib.contextmanager
def _opened(paths: Sequence[Path]) -> Iterator[list[Any]]:
    """Open rasters that are read in blocks from left to right."""
    with contextlib.ExitStack() as files:
        files.enter_context(rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES))
        yield [files.enter_context(open_dataset(path)) for path in paths]


def _windows(grid: Grid) -> Iterator[Window]:
    """Yield the blocks of a grid, whose size does not depend on its width."""
    for row in range(0, grid.height, ROWS):
        for col in range(0, grid.width, COLS):
            yield Window(col, row, min(COLS, grid.width - col), min(ROWS, grid.height - row))
