"""The raw results of a scene by several models, each of other pixels, as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import rasterio

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

_ROWS = 512


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
    starts = range(0, grid.height, _ROWS)
    progress.start("join folds", len(starts), "bands")
    with IdRasterWriter(outputs / RAW_LABELS, grid, temp=outputs) as writer:
        for row in starts:
            rows = np.full((min(_ROWS, grid.height - row), grid.width), NODATA, dtype=np.uint8)
            for path in paths:
                part = _read(path, row, len(rows))[0]
                known = part != NODATA
                if (rows[known] != NODATA).any():
                    raise DataError(f"{path}: a pixel is predicted in two folds; build the folds again")
                rows[known] = part[known]
            writer.write(row, rows)
            progress.advance()
    return grid


def _join_scores(paths: Sequence[Path], grid: Grid, outputs: Path, classes: Sequence[ClassName]) -> None:
    with open_dataset(paths[0]) as dataset:
        kind = dataset.dtypes[0]
    with ScoreRasterWriter(outputs / SCORES, grid, classes, kind, temp=outputs) as writer:
        for row in range(0, grid.height, _ROWS):
            count = min(_ROWS, grid.height - row)
            fill = 0 if kind == "uint8" else np.nan
            values = np.full((len(classes), count, grid.width), fill, dtype=kind)
            predicted = np.zeros((count, grid.width), dtype=np.bool_)
            for path in paths:
                part = _read(path, row, count)
                known = _mask(path, row, count) if kind == "uint8" else ~np.isnan(part).any(axis=0)
                values[:, known] = part[:, known]
                predicted |= known
            writer.write_encoded(row, values, predicted)


def _read(path: Path, row: int, count: int) -> npt.NDArray[np.generic]:
    with open_dataset(path) as dataset:
        values: npt.NDArray[np.generic] = dataset.read(window=((row, row + count), (0, dataset.width)))
        return values


def _mask(path: Path, row: int, count: int) -> npt.NDArray[np.bool_]:
    with open_dataset(path) as dataset:
        window = rasterio.windows.Window(0, row, dataset.width, count)
        known: npt.NDArray[np.bool_] = dataset.dataset_mask(window=window) > 0
        return known
