"""Files derived from `raw_labels.tif`: `labels.tif` with names and colours, styles, and more on request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import rasterio

from rvbuild.geo.classes import NODATA, Classes
from rvbuild.geo.grid import Grid
from rvbuild.geo.raster.file import grid_of, open_dataset
from rvbuild.geo.raster.mosaic_source import open_image
from rvbuild.geo.windows import bands
from rvbuild.geo.write.overview import Overlay, class_overlay, overview
from rvbuild.geo.write.pyramid import write_levels
from rvbuild.geo.write.qgis import write_raster_style, write_score_style
from rvbuild.geo.write.rasters import RgbRasterWriter, colour_ids, join_levels
from rvbuild.geo.write.vectors.polygons import vectorize
from rvbuild.geo.write.vectors.strips import join_strips, write_strip
from rvbuild.progress import Progress
from rvbuild.tasks.metrics.tables import without_null
from rvbuild.tasks.segmentation.merge import RAW_LABELS, SCORES
from rvbuild.tasks.segmentation.settings import SegmentationDeriveSettings
from rvbuild.tasks.strips import DerivedStrip

LABELS = "labels.tif"
COLORS = "rgb.tif"

_ROWS, _BLOCK_PX = 512, 1 << 23
"""Of a raster, that are read at once: at most so many rows, and about so many pixels."""

_CACHE_BYTES = 64 << 20
"""Of GDAL's block cache: rows of tiles are read from top to bottom."""


def derive(raw: Mapping[str, Path], settings: SegmentationDeriveSettings, outputs: Path, progress: Progress) -> None:
    """Write the files of one scene; see `rvbuild.tasks.protocol.Task.derive`."""
    predict, classes, labels = settings["predict"], settings["classes"], raw[RAW_LABELS]
    progress.start("derive", 2 + predict["rgb"] + len(predict["vectors"]), "files")
    colour_ids(labels, outputs / LABELS, classes, temp=outputs)
    progress.advance()
    _write_of_whole(labels, settings, outputs, progress)
    if predict["vectors"]:
        vectorize(labels, classes, NODATA, predict["vectors"], outputs, raw.get(SCORES))
        progress.advance(len(predict["vectors"]))


def derive_strip(
    raw: Mapping[str, Path],
    settings: SegmentationDeriveSettings,
    rows: tuple[int, int],
    outputs: Path,
    progress: Progress,
) -> None:
    """Write what `join_derived` needs of a strip; see `rvbuild.tasks.strips.Strips.derive`."""
    vectors, labels = settings["predict"]["vectors"], raw[RAW_LABELS]
    progress.start("derive", 2 if vectors else 1, "files")
    with open_dataset(labels) as dataset:
        shape = dataset.shape
    write_levels(labels, shape, rows, outputs)
    progress.advance()
    if vectors:
        write_strip(labels, settings["classes"], NODATA, vectors, rows, outputs, raw.get(SCORES))
        progress.advance()


def join_derived(
    strips: Sequence[DerivedStrip],
    raw: Mapping[str, Path],
    settings: SegmentationDeriveSettings,
    outputs: Path,
    progress: Progress,
) -> None:
    """Write the files of `derive` from those of strips; see `rvbuild.tasks.strips.Strips.join_derived`."""
    predict, classes, labels = settings["predict"], settings["classes"], raw[RAW_LABELS]
    progress.start("join", 2 + predict["rgb"] + len(predict["vectors"]), "files")
    with open_dataset(labels) as dataset:
        grid = grid_of(labels, dataset)
    files = [strip.files for strip in strips]
    join_levels(files, outputs / LABELS, grid, classes, temp=outputs)
    progress.advance()
    _write_of_whole(labels, settings, outputs, progress)
    if vectors := predict["vectors"]:
        seams = [strip.first for strip in strips[1:]]
        join_strips(files, seams, labels, classes, NODATA, vectors, outputs, raw.get(SCORES))
        progress.advance(len(vectors))


def _write_of_whole(labels: Path, settings: SegmentationDeriveSettings, outputs: Path, progress: Progress) -> None:
    """Write what is made at once even of a scene in strips: styles, and a raster of colours."""
    predict, classes = settings["predict"], settings["classes"]
    trained = without_null(classes, settings["null_id"])
    write_raster_style(outputs / LABELS, trained)
    if predict["scores"]:
        write_score_style(outputs / SCORES, len(trained), predict["scores"])
    progress.advance()
    if predict["rgb"]:
        _write_colors(labels, classes, outputs / COLORS)
        progress.advance()


def arrays(raw: Mapping[str, Path], settings: SegmentationDeriveSettings) -> dict[str, np.ndarray]:
    """Return `class_ids` (H, W) uint8, 255 without a prediction, and on request `scores` (K, H, W)."""
    labels = raw[RAW_LABELS]
    with open_dataset(labels) as dataset:
        results: dict[str, np.ndarray] = {"class_ids": dataset.read(1)}
    if settings["predict"]["scores"]:
        with open_dataset(labels.with_name(SCORES)) as dataset:
            results["scores"] = dataset.read()
    return results


def overlay(predictions: Path, grid: Grid, step: int, classes: Classes) -> Overlay:
    """Return the classes of an overview's pixels; see `rvbuild.tasks.protocol.Task.overlay`."""
    with open_image([predictions]) as labels:
        ids, known = overview(labels, step)
    return class_overlay(np.where(known[0], ids[0], np.uint8(NODATA)), classes)


def _write_colors(labels: Path, classes: Classes, path: Path) -> None:
    """Write a raster of class ids as one of the colours of the classes."""
    with rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES), open_dataset(labels) as dataset:
        grid = grid_of(labels, dataset)
        with RgbRasterWriter(path, grid, classes, temp=path.parent) as writer:
            step = max(1, min(_ROWS, _BLOCK_PX // grid.width))
            for band in bands(grid.height, grid.width, step):
                writer.write(band.row, dataset.read(1, window=((band.row, band.row_stop), (0, grid.width))))
