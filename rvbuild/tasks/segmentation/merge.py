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
        self._blender = Blender(
            grid.height,
            grid.width,
            len(trained),
            settings["chip_px"],
            predict["stride_px"],
            predict["blend"],
            self._write,
            outputs,
        )

    def add(self, window: Window, prediction: Floats, valid: Bools) -> None:
        """Take the probabilities (K, H, W) float32 of a window and which of its pixels (H, W) count.

        Windows come in row-major order and may overhang the scene; a window of which no pixel counts may be left out.
        """
        self._blender.add(window, prediction, valid)

    def finish(self) -> None:
        """Write the remaining rows and close the rasters."""
        self._blender.finish()
        # Creating the final files also needs memory.
        del self._blender
        for writer in (self._labels, self._scores):
            if writer is not None:
                writer.close()

    def _write(self, row: int, col: int, scores: Floats, known: Bools) -> None:
        """Take a finished block."""
        best, output = most_likely(scores)
        if not np.isfinite(best).all():
            raise ModelError(
                f"the model gave values that are not finite for rows {row} to {row + len(best) - 1}; "
                "expected probabilities. Its weights have probably diverged: train with a lower lr"
            )
        labels = np.where(known, self._class_ids[output], np.uint8(NODATA))
        self._labels.write(row, labels, col)
        if self._scores is not None:
            self._scores.write_encoded(row, self._scores.encode(scores, known), labels != NODATA, col)


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
