"""The confusion matrix of one scene: class rasters counted against labels, a band of rows at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from rasterio.windows import Window as RasterioWindow

from rvbuild.errors import DataError
from rvbuild.geo.area.aoi import Aoi
from rvbuild.geo.classes import NODATA, NamedClasses
from rvbuild.geo.raster.file import grid_of, open_dataset
from rvbuild.geo.windows import Window, bands
from rvbuild.progress import Progress
from rvbuild.tasks.metrics.confusion import ConfusionCounts

BAND_ROWS = 512
"""Rows of a band: one row of blocks of a cloud-optimized GeoTIFF."""

BAND_PX = 1 << 21
"""The pixels of a band at most, so that memory does not grow with the width of a scene."""

CHUNK_PX = 1 << 18
"""The pixels that are counted at once: their codes stay in the processor's cache."""

Labels = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]


class LabelReader(Protocol):
    """The interface of labels that the count needs: class ids of a window."""

    def read(self, window: Window) -> Labels:
        """Return the class ids (H, W) uint8 of a window, null without a label."""


def score(
    predictions: Path,
    labels: LabelReader,
    aoi: Aoi | None,
    classes: NamedClasses,
    null_id: int,
    progress: Progress,
) -> ConfusionCounts:
    """Count predictions against labels over one scene.

    Only labelled pixels count (label other than null) that lie inside the AOI if there is one. A pixel without a
    prediction counts in the column of the null class, so it is an error of its class and is not forgotten.

    Parameters
    ----------
    predictions
        A class raster: one band, uint8 class ids, 255 without a prediction.
    labels
        The label source of the same scene on the same grid.
    aoi
        The area of interest, or None for the whole scene.
    classes, null_id
        The class list of the settings, and the id of its null class.
    progress
        Receives progress, in rows.

    Returns
    -------
    ConfusionCounts
        Of pixels.

    Raises
    ------
    DataError
        The class raster holds a value without a class.
    """
    n = len(classes)
    confusion = np.zeros((n, n), dtype=np.int64)
    with open_dataset(predictions) as dataset:
        grid = grid_of(predictions, dataset)
        progress.start("evaluate", grid.height, "rows")
        for band in bands(grid.height, grid.width, max(1, min(BAND_ROWS, BAND_PX // grid.width))):
            if aoi is None or aoi.intersects(band):
                predicted = dataset.read(1, window=RasterioWindow(band.col, band.row, band.width, band.height))
                truth = labels.read(band)
                if aoi is not None:
                    truth = np.where(aoi.mask(band), truth, np.uint8(null_id))
                confusion += confusion_matrix(truth, _class_ids(predicted, n, null_id, predictions, band), n)
            progress.advance(band.height)
    # Pixels without a label are not evaluated.
    confusion[null_id] = 0
    return {"confusion": confusion.tolist()}


def confusion_matrix(truth: Labels, predicted: Labels, n: int) -> Counts:
    """Count pairs of class ids.

    Parameters
    ----------
    truth, predicted
        Class ids of the same shape, uint8, each below `n`.
    n
        The number of classes.

    Returns
    -------
    (n, n) int64
        Rows are `truth`, columns `predicted`.
    """
    code_type = np.uint8 if n * n <= 256 else np.uint16
    flat_truth, flat_predicted = truth.reshape(-1), predicted.reshape(-1)
    counts = np.zeros(n * n, dtype=np.int64)
    for start in range(0, flat_truth.size, CHUNK_PX):
        chunk = slice(start, start + CHUNK_PX)
        codes = np.multiply(flat_truth[chunk], n, dtype=code_type)
        codes += flat_predicted[chunk]
        counts += np.bincount(codes, minlength=n * n)
    return counts.reshape(n, n)


def _class_ids(values: npt.NDArray[Any], n: int, null_id: int, path: Path, band: Window) -> Labels:
    """Return class ids with null for pixels without a prediction; raise an error for values without a class."""
    if values.dtype != np.uint8:
        raise DataError(f"{path}: expected class ids of type uint8, found {values.dtype}")
    table = np.full(256, NODATA, dtype=np.uint8)
    table[:n] = np.arange(n)
    table[NODATA] = null_id
    ids: Labels = table[values]
    if int(ids.max(initial=0)) >= n:
        row, col = (int(i) for i in np.argwhere(ids >= n)[0])
        raise DataError(
            f"{path}: value {int(values[row, col])} at pixel (row {band.row + row}, column {col}) is not a class id; "
            f"expected 0 to {n - 1}, or {NODATA} where nothing was predicted"
        )
    return ids
