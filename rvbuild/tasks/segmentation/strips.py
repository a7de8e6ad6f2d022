"""Strips of rows of a segmented scene: their joining, without a run of the network, and their evaluation.

What evaluates reads labels and areas with fiona, which prediction alone does without: it is imported where it is used.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.windows import Window as RasterioWindow

from rvbuild.geo.classes import NODATA
from rvbuild.geo.grid import Grid
from rvbuild.geo.write.rasters import IdRows, can_join_ids, join_ids
from rvbuild.progress import Progress
from rvbuild.tasks.evaluation import Counts
from rvbuild.tasks.segmentation.merge import RAW_LABELS, SCORES, SegmentationMerger, writers
from rvbuild.tasks.segmentation.settings import SegmentationDeriveSettings, SegmentationInferSettings
from rvbuild.tasks.strips import DerivedStrip, Strip

if TYPE_CHECKING:
    from rvbuild.geo.area.aoi import Aoi
    from rvbuild.geo.classes import NamedClasses
    from rvbuild.geo.windows import Window
    from rvbuild.tasks.metrics.places import WorstPlaces
    from rvbuild.tasks.segmentation.score import PixelCounts

ROWS, COLS = 128, 8192
"""Of the blocks that are copied at once."""

CACHE_BYTES = 64 << 20
"""Of GDAL's block cache: rows of tiles are read from left to right."""


class RowStrips:
    """Predicts and evaluates strips of rows, and derives files of them; see `rvbuild.tasks.strips.RasterStrips`."""

    repeats = True

    def area(self, aoi: Aoi, grid: Grid, window: Window, settings: SegmentationInferSettings) -> npt.NDArray[np.bool_]:
        """Return the pixels of a window that are in the area of interest, (H, W) bool."""
        return aoi.mask(window)

    def merger(self, grid: Grid, outputs: Path, settings: SegmentationInferSettings) -> SegmentationMerger:
        """Return a merger of the windows of a strip, whose scores have no overviews."""
        return SegmentationMerger(grid, outputs, settings, final=False)

    def derive(
        self,
        raw: Mapping[str, Path],
        settings: SegmentationDeriveSettings,
        rows: tuple[int, int],
        outputs: Path,
        progress: Progress,
    ) -> None:
        """Write the tiles and the vectors of a strip."""
        from rvbuild.tasks.segmentation.outputs import derive_strip

        derive_strip(raw, settings, rows, outputs, progress)

    def join_derived(
        self,
        strips: Sequence[DerivedStrip],
        raw: Mapping[str, Path],
        settings: SegmentationDeriveSettings,
        outputs: Path,
        progress: Progress,
    ) -> None:
        """Write the files of a scene from the tiles and the vectors of its strips."""
        from rvbuild.tasks.segmentation.outputs import join_derived

        join_derived(strips, raw, settings, outputs, progress)

    def score(
        self,
        predictions: Path,
        source: Any,
        aoi: Aoi | None,
        classes: NamedClasses,
        null_id: int,
        progress: Progress,
        worst: WorstPlaces,
        scores: Path | None,
        rows: tuple[int, int],
    ) -> PixelCounts:
        """Return the confusion matrix of a strip as JSON data."""
        from rvbuild.tasks.segmentation.score import score

        return score(predictions, source, aoi, classes, null_id, progress, worst, scores, rows)

    def added(self, parts: Sequence[Counts]) -> PixelCounts:
        """Return the counts of a scene from those of its strips."""
        from rvbuild.tasks.segmentation.score import added

        return added(cast("Sequence[PixelCounts]", parts))

    def join(
        self,
        strips: Sequence[Strip],
        grid: Grid,
        outputs: Path,
        settings: SegmentationInferSettings,
        progress: Progress,
    ) -> None:
        """Write the raw result of a scene from that of its strips."""
        parts = [IdRows(strip.files[RAW_LABELS], strip.top, strip.first, strip.stop) for strip in strips]
        if not settings["predict"]["scores"] and can_join_ids(parts, grid):
            progress.start("join", 1, "files")
            join_ids(parts, outputs / RAW_LABELS, grid, temp=outputs)
            progress.advance()
            return
        labels, scores = writers(grid, outputs, settings)
        progress.start("join", grid.height, "rows")
        with contextlib.ExitStack() as stack:
            stack.enter_context(rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES))
            for writer in (scores, labels):
                if writer is not None:
                    stack.enter_context(writer)
            for strip in strips:
                with contextlib.ExitStack() as files:
                    of_labels = files.enter_context(rasterio.open(strip.files[RAW_LABELS]))
                    of_scores = None if scores is None else files.enter_context(rasterio.open(strip.files[SCORES]))
                    for row in range(strip.first, strip.stop, ROWS):
                        rows = min(ROWS, strip.stop - row)
                        for col in range(0, grid.width, COLS):
                            where = RasterioWindow(col, row - strip.top, min(COLS, grid.width - col), rows)
                            ids: np.ndarray[Any, np.dtype[np.uint8]] = of_labels.read(1, window=where)
                            labels.write(row, ids, col)
                            if scores is not None and of_scores is not None:
                                scores.write_encoded(row, of_scores.read(window=where), ids != NODATA, col)
                        progress.advance(rows)
