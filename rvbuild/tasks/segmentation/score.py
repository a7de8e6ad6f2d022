"""The confusion matrix of one scene: class rasters counted against labels, block by block."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NotRequired, Protocol

import numpy as np
import numpy.typing as npt
from rasterio.windows import Window as RasterioWindow

from rvbuild.errors import DataError
from rvbuild.geo.area.aoi import Aoi
from rvbuild.geo.classes import NODATA, NamedClasses
from rvbuild.geo.raster.file import grid_of, open_dataset
from rvbuild.geo.windows import Window
from rvbuild.progress import Progress
from rvbuild.tasks.metrics.confusion import ConfusionCounts
from rvbuild.tasks.metrics.places import SIDE_PX, Pair, WorstPlaces, on_grid, squares_of
from rvbuild.tasks.metrics.score_histogram import ScoreHistogram, score_histogram
from rvbuild.tasks.metrics.score_histogram import added as both

BLOCK = (2, 16)
"""Rows and columns of squares that are read at once: memory does not grow with the size of a scene."""

BLOCK_ROWS = BLOCK[0] * SIDE_PX

CHUNK_PX = 1 << 18
"""The pixels that are counted at once: their codes stay in the processor's cache."""

Labels = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]


class PixelCounts(ConfusionCounts):
    """What is counted in a scene."""

    score_histogram: NotRequired[ScoreHistogram]
    """Of the predicted classes of all labelled pixels, if there are scores."""


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
    worst: WorstPlaces,
    scores: Path | None = None,
    rows: tuple[int, int] | None = None,
) -> PixelCounts:
    """Count predictions against labels over one scene, or over a strip of it.

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
    worst
        Receives the errors of each square, in pixels.
    scores
        The raster of scores, or None.
    rows
        The first row of the strip, a multiple of `BLOCK_ROWS`, and the one after its last; None: all.

    Returns
    -------
    PixelCounts

    Raises
    ------
    DataError
        The class raster holds a value without a class.
    """
    n = len(classes)
    confusion = np.zeros((n, n), dtype=np.int64)
    histogram: ScoreHistogram | None = None
    with contextlib.ExitStack() as stack:
        dataset = stack.enter_context(open_dataset(predictions))
        score_bands = None if scores is None else stack.enter_context(open_dataset(scores))
        grid = grid_of(predictions, dataset)
        first, stop = (0, grid.height) if rows is None else rows
        progress.start("evaluate", stop - first, "rows")
        for block in on_grid(grid.height, grid.width, BLOCK):
            if not first <= block.row < stop:
                continue
            if aoi is None or aoi.intersects(block):
                part_of_file = RasterioWindow(block.col, block.row, block.width, block.height)
                predicted = _class_ids(dataset.read(1, window=part_of_file), n, null_id, predictions, block)
                truth = labels.read(block)
                if aoi is not None:
                    truth = np.where(aoi.mask(block), truth, np.uint8(null_id))
                for square in squares_of(block):
                    part = square.slices_in(Window(0, 0, block.height, block.width))
                    of_square = confusion_matrix(truth[part], predicted[part], n)
                    confusion += of_square
                    place = square._replace(row=block.row + square.row, col=block.col + square.col)
                    worst.add(place, _errors(of_square, null_id))
                if score_bands is not None:
                    counted = (truth != null_id) & (predicted != null_id)
                    highest = _highest(score_bands.read(window=part_of_file))[counted]
                    of_block = score_histogram(highest, (truth == predicted)[counted])
                    histogram = of_block if histogram is None else both(histogram, of_block)
            if block.col_stop == grid.width:
                progress.advance(block.height)
    # Pixels without a label are not evaluated.
    confusion[null_id] = 0
    counts: PixelCounts = {"confusion": confusion.tolist()}
    if histogram is not None:
        counts["score_histogram"] = histogram
    return counts


def added(parts: Sequence[PixelCounts]) -> PixelCounts:
    """Return the counts of a scene from those of its strips."""
    confusion: Counts = sum(
        (np.array(part["confusion"], dtype=np.int64) for part in parts), start=np.zeros((), dtype=np.int64)
    )
    counts: PixelCounts = {"confusion": confusion.tolist()}
    histograms = [part["score_histogram"] for part in parts if "score_histogram" in part]
    if histograms:
        counts["score_histogram"] = functools.reduce(both, histograms)
    return counts


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


def _highest(scores: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return the highest score of each pixel, in [0, 1], from scores (K, H, W) in the encoding of the file."""
    highest: npt.NDArray[np.float32] = scores.max(axis=0).astype(np.float32)
    if scores.dtype == np.uint8:
        highest /= 255
    return highest


def _errors(counts: Counts, null_id: int) -> dict[Pair, int]:
    """Return the counts of labelled pixels with another prediction, by label and prediction."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    wrong[null_id] = 0
    return {(int(row), int(col)): int(wrong[row, col]) for row, col in np.argwhere(wrong)}


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
