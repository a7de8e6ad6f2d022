"""The draft stage: the classes of all pixels of a scene, from its features and the linear model. torch is not needed.

Scores of cells are interpolated to pixels, and the highest decides. A strip of blocks is computed at a time, so memory
does not grow with the height of a scene.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from affine import Affine

from rvbuild.cores import thread_count
from rvbuild.geo.classes import NODATA
from rvbuild.geo.grid import Grid
from rvbuild.geo.windows import Window
from rvbuild.geo.write.qgis import write_raster_style, write_score_style
from rvbuild.geo.write.rasters import DraftRasterWriter, ScoreRasterWriter
from rvbuild.learn.encoders.encoder import Floats
from rvbuild.learn.linear.head import Head, read_head
from rvbuild.progress import Progress
from rvbuild.stages.draft.cells import Cells, SceneFeatures
from rvbuild.stages.draft.pooled import PooledCells
from rvbuild.stages.draft.settings import DraftSettings
from rvbuild.stages.threads.read_ahead import read_ahead
from rvbuild.tasks.metrics.tables import without_null

LABELS, SCORES, CELLS = "labels.tif", "scores.tif", "cells.json"

THREADS = 4
"""That compute rows of blocks, at most."""


def run(inputs: Mapping[str, Sequence[Path]], settings: DraftSettings, outputs: Path, progress: Progress) -> None:
    """Write the map of one scene.

    Parameters
    ----------
    inputs
        `features`: the files of the features stage; `head`: `head.json`.
    settings
        See `DraftSettings`.
    outputs
        Receives `labels.tif`, class ids of the pixels of the scene, and `labels.qml`; on request `scores.tif`, the
        probabilities of the classes in cells, uint8, and `scores.qml`; with `cell_px`, `cells.json`, the cells that the
        project classifies, see `rvbuild.tasks.classification.cells`.
    progress
        Receives progress, in rows of blocks.
    """
    features, head = SceneFeatures(inputs["features"]), read_head(inputs["head"][0])
    classes, cells, grid = settings["classes"], features.cells, features.grid
    drafted = [c for c in classes if c["id"] in head.class_ids]
    progress.start("draft", cells.rows, "rows of blocks")
    with ExitStack() as files:
        labels = files.enter_context(DraftRasterWriter(outputs / LABELS, grid, classes, temp=outputs))
        scores = None
        if settings["scores"]:
            path, coarse = outputs / SCORES, _cell_grid(grid, cells)
            scores = files.enter_context(ScoreRasterWriter(path, coarse, drafted, "uint8", temp=outputs))
        pooled = _pooled(features, head, settings)
        for row, drawn in enumerate(_drawn(features, head, settings["scores"], pooled is not None)):
            labels.write(row * cells.block_px, drawn.labels)
            if scores is not None and drawn.probabilities is not None:
                scores.write(row * cells.side, drawn.probabilities, drawn.known)
            if pooled is not None and drawn.shifted is not None:
                pooled.add(row * cells.side, drawn.shifted, drawn.known)
            progress.advance()
    if pooled is not None:
        pooled.write(outputs / CELLS)
    trained = [c for c in classes if settings["background"] or c["id"] != settings["null_id"]]
    write_raster_style(outputs / LABELS, trained)
    if settings["scores"]:
        write_score_style(outputs / SCORES, len(drafted), "uint8")


def _pooled(features: SceneFeatures, head: Head, settings: DraftSettings) -> PooledCells | None:
    """Return what gathers the cells that the project classifies, if it does."""
    if "cell_px" not in settings:
        return None
    ids = [c["id"] for c in without_null(settings["classes"], settings["null_id"])]
    return PooledCells(features.grid, settings["cell_px"], features.cells.stride_px, ids, head.class_ids)


class _Drawn(NamedTuple):
    """The map of a row of blocks."""

    labels: npt.NDArray[np.uint8]
    """(h, W) class ids, 255 without data."""
    probabilities: Floats | None
    """(K, rows, cols) of cells."""
    shifted: Floats | None
    """The same, with the offsets that decide over classes."""
    known: npt.NDArray[np.bool_]
    """(rows, cols): the cells with data."""


def _drawn(features: SceneFeatures, head: Head, with_scores: bool, with_shifted: bool) -> Iterator[_Drawn]:
    """Yield the map of each row of blocks; threads compute some rows ahead."""
    threads = min(THREADS, thread_count())

    def opened() -> AbstractContextManager[SceneFeatures]:
        return nullcontext(features)  # memory-mapped: threads share it

    def strip(source: SceneFeatures, row: int) -> Floats:
        return _strip(source, head, row)

    def draw(source: SceneFeatures, item: tuple[int, tuple[Floats, Floats]]) -> _Drawn:
        return _draw(source, head, item[0], *item[1], with_scores, with_shifted)

    rows = range(features.cells.rows)
    strips = read_ahead(opened, strip, rows, threads=threads, depth=threads)
    items = enumerate(_with_neighbours(strips))
    yield from read_ahead(opened, draw, items, threads=threads, depth=threads)


def _strip(features: SceneFeatures, head: Head, row: int) -> Floats:
    """Return the scores (K, rows, cols) of the cells of a row of blocks, inside the scene."""
    cells = features.cells
    rows, cols = -(-cells.height // cells.stride_px), -(-cells.width // cells.stride_px)
    scores = np.concatenate(
        [head.scores(block).T.reshape(-1, cells.side, cells.side) for block in features.row(row)], axis=2
    )
    return scores[:, : rows - row * cells.side, :cols]


def _draw(
    features: SceneFeatures,
    head: Head,
    row: int,
    strip: Floats,
    around: Floats,
    with_scores: bool,
    with_shifted: bool,
) -> _Drawn:
    """Return the map of a row of blocks from its scores, alone and with a row of cells above and below."""
    cells = features.cells
    window = Window(row * cells.block_px, 0, cells.block_px, cells.width).clip(cells.height, cells.width)
    valid = features.valid(window)
    offsets = (head.offsets * head.unit).astype(np.float32)[:, np.newaxis, np.newaxis]
    output = _decided(around + offsets, cells.stride_px)[: window.height, : window.width]
    labels = np.array(head.class_ids, dtype=np.uint8)[output]
    known = np.ones(strip.shape[1:], dtype=np.bool_)
    if valid is not None:
        labels, known = np.where(valid, labels, np.uint8(NODATA)), _any_in_cells(valid, cells)
    scores = _probabilities(strip) if with_scores else None
    return _Drawn(labels, scores, _probabilities(strip + offsets) if with_shifted else None, known)


def _with_neighbours(strips: Iterator[Floats]) -> Iterator[tuple[Floats, Floats]]:
    """Yield each strip, alone and with the row of cells above and below it; at the edges of the scene, its own."""
    above: Floats | None = None
    strip: Floats | None = None
    for below in _then_none(strips):
        if strip is not None:
            top = strip[:, :1] if above is None else above
            bottom = strip[:, -1:] if below is None else below[:, :1]
            yield strip, np.concatenate([top, strip, bottom], axis=1)
            above = strip[:, -1:]
        strip = below


def _then_none(strips: Iterator[Floats]) -> Iterator[Floats | None]:
    yield from strips
    yield None


def _decided(scores: Floats, stride: int) -> npt.NDArray[np.uint8]:
    """Return which output is highest at each pixel (H, W), of scores (K, rows + 2, cols) with a row around."""
    rows, cols = (scores.shape[1] - 2) * stride, scores.shape[2] * stride
    output = np.zeros((rows, cols), dtype=np.uint8)
    best = np.zeros((rows, cols), dtype=np.float32) if len(scores) > 2 else np.float32(0)
    for number, plane in enumerate(scores[1:] - scores[0], start=1):
        pixels = _to_pixels(plane, stride)
        higher = np.asarray(pixels > best)
        np.copyto(output, np.uint8(number), where=higher)
        if number + 1 < len(scores):
            best = np.maximum(best, pixels)
    return output


def _to_pixels(plane: Floats, stride: int) -> Floats:
    """Return a plane (rows + 2, cols) interpolated linearly to pixels, without the rows around."""
    rows, cols = plane.shape[0] - 2, plane.shape[1]
    tall = np.empty((rows, stride, cols), dtype=np.float32)
    for phase, (step, share) in enumerate(_phases(stride)):
        tall[:, phase] = plane[1:-1] * np.float32(1 - share) + plane[1 + step : 1 + step + rows] * np.float32(share)
    wide = np.concatenate([tall[..., :1], tall, tall[..., -1:]], axis=2)
    result = np.empty((rows, stride, cols, stride), dtype=np.float32)
    for phase, (step, share) in enumerate(_phases(stride)):
        result[..., phase] = tall * np.float32(1 - share) + wide[..., 1 + step : 1 + step + cols] * np.float32(share)
    return result.reshape(rows * stride, cols * stride)


def _phases(stride: int) -> list[tuple[int, float]]:
    """Return for each pixel of a cell, along one axis, which neighbour of the cell counts, -1 or 1, and how much."""
    places = [(phase + 0.5) / stride - 0.5 for phase in range(stride)]
    return [(-1 if place < 0 else 1, abs(place)) for place in places]


def _probabilities(scores: Floats) -> Floats:
    """Return the probabilities (K, h, w) of scores."""
    powers = np.exp(scores - scores.max(axis=0))
    result: Floats = powers / powers.sum(axis=0)
    return result


def _cell_grid(grid: Grid, cells: Cells) -> Grid:
    """Return the grid of the cells of a scene."""
    stride = cells.stride_px
    height, width = -(-cells.height // stride), -(-cells.width // stride)
    return Grid(height, width, grid.transform * Affine.scale(stride), grid.crs)


def _any_in_cells(valid: npt.NDArray[np.bool_], cells: Cells) -> npt.NDArray[np.bool_]:
    """Return which cells of a strip have a pixel with data."""
    stride = cells.stride_px
    down, right = (-length % stride for length in valid.shape)
    padded = np.pad(valid, ((0, down), (0, right)))
    rows, cols = padded.shape[0] // stride, padded.shape[1] // stride
    return np.asarray(padded.reshape(rows, stride, cols, stride).any(axis=(1, 3)))
