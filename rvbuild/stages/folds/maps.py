"""The out-of-fold map of a scene: each pixel as the model predicts it that has not learned from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NotRequired, cast

import numpy as np
import numpy.typing as npt
import rasterio

from rvbuild.errors import DataError
from rvbuild.geo.classes import NODATA
from rvbuild.geo.raster.file import grid_of, open_dataset
from rvbuild.geo.write.rasters import IdRasterWriter, ScoreRasterWriter
from rvbuild.progress import Progress
from rvbuild.settings.classes import ClassName
from rvbuild.stages import predict
from rvbuild.tasks.metrics.tables import without_null
from rvbuild.tasks.settings import DeriveSettings

RAW, SCORES = "raw_labels.tif", "scores.tif"
_ROWS = 512


class MapSettings(DeriveSettings):
    """The settings of the stage."""

    scores: NotRequired[Literal["float32", "uint8"]]
    """The kind of the scores, if the folds have some."""


def run(inputs: Mapping[str, Sequence[Path]], settings: MapSettings, outputs: Path, progress: Progress) -> None:
    """Join the predictions of a scene by the models of several folds, and derive what predict derives.

    Parameters
    ----------
    inputs
        `raw/<fold>`: `raw_labels.tif`, and `scores.tif` if there are scores; each is empty but for the pixels of its
        fold.
    settings
        See `MapSettings`.
    outputs
        Receives the same files, and those of the predict stage.
    progress
        Receives progress, in bands of rows.

    Raises
    ------
    DataError
        The rasters of two folds have different sizes, or a pixel is predicted by two of them.
    """
    parts = [{path.name: path for path in inputs[role]} for role in sorted(inputs)]
    _join_labels([part[RAW] for part in parts], outputs, progress)
    raw: dict[str, Sequence[Path]] = {"raw": [outputs / RAW]}
    if (kind := settings.get("scores")) is not None:
        classes = cast("list[ClassName]", without_null(settings["classes"], settings["null_id"]))
        _join_scores([part[SCORES] for part in parts], outputs, classes, kind)
        raw["scores"] = [outputs / SCORES]
    predict.run(raw, settings, outputs, progress)


def _join_labels(paths: Sequence[Path], outputs: Path, progress: Progress) -> None:
    with open_dataset(paths[0]) as dataset:
        grid = grid_of(paths[0], dataset)
    for path in paths[1:]:
        with open_dataset(path) as dataset:
            if (dataset.height, dataset.width) != (grid.height, grid.width):
                raise DataError(f"{path}: the folds of a scene have rasters of different sizes; build the folds again")
    starts = range(0, grid.height, _ROWS)
    progress.start("join folds", len(starts), "bands")
    with IdRasterWriter(outputs / RAW, grid, temp=outputs) as writer:
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


def _join_scores(
    paths: Sequence[Path], outputs: Path, classes: Sequence[ClassName], kind: Literal["float32", "uint8"]
) -> None:
    with open_dataset(paths[0]) as dataset:
        grid = grid_of(paths[0], dataset)
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
