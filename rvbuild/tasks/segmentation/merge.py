"""The raw result of a scene from the predictions of its windows: `raw_labels.tif`, and on request `scores.tif`."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from rvbuild.errors import ModelError
from rvbuild.geo.classes import NODATA
from rvbuild.geo.grid import Grid
from rvbuild.geo.windows import Window
from rvbuild.geo.write.rasters import IdRasterWriter, PlainScoreWriter, ScoreRasterWriter
from rvbuild.settings.classes import ClassName
from rvbuild.tasks.metrics.tables import without_null
from rvbuild.tasks.segmentation.blend import Blender
from rvbuild.tasks.segmentation.settings import SegmentationInferSettings

RAW_LABELS = "raw_labels.tif"
"""Class ids alone: without the names and colours that `labels.tif` has."""
SCORES = "scores.tif"

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]


def merger(grid: Grid, outputs: Path, settings: SegmentationInferSettings) -> SegmentationMerger:
    """Return a merger that writes to the directory `outputs`; `settings` are those of the infer stage."""
    return SegmentationMerger(grid, outputs, settings)


def writers(
    grid: Grid, outputs: Path, settings: SegmentationInferSettings, *, final: bool = True
) -> tuple[IdRasterWriter, ScoreRasterWriter | None]:
    """Return the writers of the raw result: of the classes, and of the scores if the settings ask for them."""
    scores, kind = None, settings["predict"]["scores"]
    if kind:
        # If scores are written, classes have names.
        named = cast("list[ClassName]", without_null(settings["classes"], settings["null_id"]))
        writer = ScoreRasterWriter if final else PlainScoreWriter
        scores = writer(outputs / SCORES, grid, named, kind, temp=outputs)
    return IdRasterWriter(outputs / RAW_LABELS, grid, temp=outputs), scores


class SegmentationMerger:
    """Blends the probabilities of windows and writes rows when they are finished.

    The class of a pixel is the one of the highest blended probability, the first of several that are equally high.
    """

    def __init__(self, grid: Grid, outputs: Path, settings: SegmentationInferSettings, *, final: bool = True) -> None:
        """Open the files; unless they are `final`, scores have no overviews."""
        predict = settings["predict"]
        trained = without_null(settings["classes"], settings["null_id"])
        self._class_ids = np.array([item["id"] for item in trained], dtype=np.uint8)
        self._labels, self._scores = writers(grid, outputs, settings, final=final)
        self._alone = one_decides(settings)
        size, stride = settings["chip_px"], predict["stride_px"]
        if self._alone:
            sink, dtype = self._write_outputs, np.uint8
            self._blender = Blender(grid.height, grid.width, 1, size, stride, "none", sink, outputs, dtype)
        else:
            count, blend = len(trained), predict["blend"]
            self._blender = Blender(grid.height, grid.width, count, size, stride, blend, self._write_scores, outputs)

    def add(self, window: Window, prediction: Floats | Labels, valid: Bools) -> None:
        """Take the probabilities (K, H, W) float32 of a window and which of its pixels (H, W) count.

        If `one_decides`, the prediction may also be what `outputs_of` returns. Windows come in row-major order and may
        overhang the scene; a window of which no pixel counts may be left out.
        """
        if self._alone:
            outputs = outputs_of(cast("Floats", prediction)) if prediction.ndim > 2 else prediction
            prediction = outputs[np.newaxis]
        self._blender.add(window, prediction, valid)

    def finish(self) -> None:
        """Write the remaining rows and close the rasters."""
        self._blender.finish()
        # Creating the final files also needs memory.
        del self._blender
        for writer in (self._labels, self._scores):
            if writer is not None:
                writer.close()

    def _write_outputs(self, row: int, col: int, outputs: Labels, known: Bools) -> None:
        """Take a finished block of the positions of the most likely classes."""
        ids = np.full(256, NODATA, dtype=np.uint8)
        ids[: len(self._class_ids)] = self._class_ids
        (output,) = outputs
        if ((output == _NOT_FINITE) & known).any():
            raise _not_finite(row, len(output))
        labels = ids[output]
        labels[~known] = NODATA
        self._labels.write(row, labels, col)

    def _write_scores(self, row: int, col: int, scores: Floats, known: Bools) -> None:
        """Take a finished block of probabilities."""
        best, output = most_likely(scores)
        if not np.isfinite(best).all():
            raise _not_finite(row, len(best))
        labels = np.where(known, self._class_ids[output], np.uint8(NODATA))
        self._labels.write(row, labels, col)
        if self._scores is not None:
            self._scores.write_encoded(row, self._scores.encode(scores, known), labels != NODATA, col)


_NOT_FINITE = 255
"""The position of the most likely class where the probabilities are not finite; there are at most 255 classes."""


def one_decides(settings: SegmentationInferSettings) -> bool:
    """Tell whether the class of each pixel is the most likely one of one window, and nothing else is asked for."""
    predict = settings["predict"]
    apart = predict["stride_px"] >= settings["chip_px"]
    return not predict["scores"] and (predict["blend"] == "none" or (predict["blend"] == "mean" and apart))


def outputs_of(scores: Floats) -> Labels:
    """Return the position of the most likely class of each pixel, from probabilities (K, H, W)."""
    best, output = most_likely(scores)
    finite = np.isfinite(best)
    if not finite.all():
        output[~finite] = _NOT_FINITE
    return output


def _not_finite(row: int, count: int) -> ModelError:
    return ModelError(
        f"the model gave values that are not finite for rows {row} to {row + count - 1}; expected probabilities. Its "
        "weights have probably diverged: train with a lower lr"
    )


def most_likely(scores: Floats) -> tuple[Floats, npt.NDArray[np.uint8]]:
    """Return the highest score of each pixel (h, W), and which output has it (h, W) uint8: the first of equals.

    `scores` is (K, h, W). The same as `max` and `argmax` along the first axis, but faster. A NaN anywhere makes the
    highest score NaN.
    """
    best: Floats = scores.max(axis=0)
    # The number of outputs before the first that has it: without masks, which are slow.
    output, found = np.zeros(best.shape, dtype=np.uint8), np.zeros(best.shape, dtype=bool)
    for plane in scores[:-1]:
        found |= plane == best
        output += ~found
    return best, output
