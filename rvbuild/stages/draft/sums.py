"""The sums stage: features of one training scene summed by block and class, as exact integers.

A pixel counts if it has a label and data, and lies in the area of interest; it has the features of its cell. The null
class counts where it means the background of objects.

After an edit of labels, only blocks whose labels differ are summed again, and the totals become what they would be in
one pass, because integers add up exactly.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from rvbuild import tasks
from rvbuild.geo.area.aoi import Aoi, open_aoi
from rvbuild.geo.classes import NODATA
from rvbuild.geo.windows import Window
from rvbuild.learn.linear import moments
from rvbuild.progress import Progress
from rvbuild.stages.draft.cells import Cells, SceneFeatures
from rvbuild.stages.draft.sample import Sample, sample_of
from rvbuild.stages.draft.settings import SumsSettings
from rvbuild.stages.draft.stored import (
    BLOCKS,
    DESCRIPTION,
    SAMPLE,
    TOTALS,
    UNLABELLED,
    Block,
    Row,
    Sums,
    fold_of,
    read_previous,
    row_file,
    write_json,
)
from rvbuild.tasks.protocol import PixelLabels

Counts = dict[int, npt.NDArray[np.int64]]
"""Class id → how many pixels of each cell of a block have it, (cells of a block,)."""


def run(
    inputs: Mapping[str, Sequence[Path]],
    settings: SumsSettings,
    outputs: Path,
    progress: Progress,
    previous: Mapping[str, Path] | None = None,
) -> list[str]:
    """Sum the features of one scene.

    Parameters
    ----------
    inputs
        `features`: the files of the features stage; `labels`: the files of the scene; `aoi`: none or more.
    settings
        task, scene, labels, classes, null_id, background, folds, first_fold, area.
    outputs
        Receives `sums.json`, `blocks.json`, `totals.npy`, `sample.npy`, `unlabelled.npy`, and `row-*.npy` of each row
        of blocks with a label; see `rvbuild.stages.draft.stored`.
    progress
        Receives progress, in rows of blocks.
    previous
        The files of a previous result by name, which differs from this one in its labels at the most.

    Returns
    -------
    list of str
        The reused files of the previous result, which are not written again.

    Raises
    ------
    DataError
        The labels or the area of interest do not match the image or the classes.
    """
    features = SceneFeatures(inputs["features"])
    cells, classes, null_id = features.cells, settings["classes"], settings["null_id"]
    aoi = open_aoi(inputs.get("aoi", ()), features.grid, settings.get("area"))
    without = (NODATA,) if settings["background"] else (NODATA, null_id)
    shape = (settings["folds"], len(classes), moments.size(len(features.names)))
    sample = sample_of(cells)
    before = read_previous(previous or {}, shape, len(sample.blocks))
    totals, dtype = before.totals.copy(), moments.dtype_for(cells.block_px**2)
    task = tasks.get(settings["task"])
    rows: list[list[Block]] = []
    kept: list[str] = []
    if before.unlabelled is None:
        np.save(outputs / SAMPLE, sample.features(features))
        unlabelled = _with_data(features, sample)
    else:
        kept.append(SAMPLE)
        unlabelled = before.unlabelled.copy()
    progress.start(f"sum {settings['scene']}", cells.rows, "rows of blocks")
    with closing(task.pixel_labels(inputs["labels"], settings["labels"], features.grid, classes, null_id)) as labels:
        summing = _Summing(features, labels, aoi, without)
        for row in range(cells.rows):
            old, states = before.row(row), summing.states(row)
            if [(state.col, state.digest) for state in states] == [(block.col, block.digest) for block in old.blocks]:
                rows.append(old.blocks)
                kept += [row_file(row)] if old.file is not None else []
            else:
                entries = list[Sums]()
                rows.append([])
                for change in summing.changes(row, states, old):
                    fold = fold_of(row, change.block.col, settings["first_fold"], settings["folds"])
                    totals[fold, change.before_ids] -= change.before
                    totals[fold, change.block.class_ids] += change.sums
                    rows[-1].append(change.block)
                    entries.append(change.sums)
                    if change.labelled is not None:
                        here = sample.blocks == row * cells.cols + change.block.col
                        free = _data(features, row, change.block.col) - change.labelled
                        unlabelled[here] = free[sample.places[here]]
                if any(map(len, entries)):
                    np.save(outputs / row_file(row), np.concatenate(entries).astype(dtype))
            progress.advance()
        for note in labels.notes:
            progress.note(note)
    np.save(outputs / TOTALS, totals)
    np.save(outputs / UNLABELLED, unlabelled)
    write_json(outputs / BLOCKS, [[block._asdict() for block in blocks] for blocks in rows])
    described = {
        "scene": settings["scene"],
        "features": list(features.names),
        "cells": cells._asdict(),
        "folds": settings["folds"],
        "first_fold": settings["first_fold"],
        "pixels": totals[:, :, 0].sum(axis=0).tolist(),
    }
    write_json(outputs / DESCRIPTION, described)
    return kept


class _State(NamedTuple):
    """The labels of a block."""

    col: int
    digest: str
    counts: Counts | None
    """If they had to be read for the digest."""


class _Change(NamedTuple):
    """The sums of a block, and what they were before; the same if the labels are."""

    block: Block
    sums: Sums
    before_ids: list[int]
    before: Sums
    labelled: npt.NDArray[np.int64] | None
    """How many pixels of each cell have a label that counts; None if that is as before."""


class _Summing(NamedTuple):
    """What sums are made of."""

    features: SceneFeatures
    labels: PixelLabels
    aoi: Aoi | None
    without: Collection[int]

    def states(self, row: int) -> list[_State]:
        """Return the labels of the blocks of a row that have something of the area of interest."""
        cells, found = self.features.cells, list[_State]()
        for col in range(cells.cols):
            window = cells.window(row, col).clip(cells.height, cells.width)
            if self.aoi is not None and not self.aoi.intersects(window):
                continue
            digest, counts = self.labels.digest(window), None
            if digest is None:
                counts = self._counts(row, col)
                digest = _digest(counts)
            found.append(_State(col, digest, counts))
        return found

    def changes(self, row: int, states: Sequence[_State], old: Row) -> list[_Change]:
        """Return the sums of the blocks of a row, given those before."""
        known, sums, found = {block.col: block for block in old.blocks}, old.sums(), list[_Change]()
        nothing = np.zeros((0, moments.size(len(self.features.names))), dtype=np.int64)
        for state in states:
            block = known.get(state.col)
            ids = [] if block is None else block.class_ids
            before = sums.get(state.col, nothing)
            if block is not None and block.digest == state.digest:
                found.append(_Change(block, before, ids, before, None))
                continue
            counts = self._counts(row, state.col) if state.counts is None else state.counts
            features = self.features.block(row, state.col)
            now = [moments.moments(features, pixels) for pixels in counts.values()]
            block = Block(state.col, state.digest, list(counts))
            labelled = sum(counts.values(), np.zeros(len(features), dtype=np.int64))
            found.append(_Change(block, np.stack(now) if now else nothing, ids, before, labelled))
        return found

    def _counts(self, row: int, col: int) -> Counts:
        """Return how many pixels of each cell of a block have each class."""
        cells = self.features.cells
        window = cells.window(row, col).clip(cells.height, cells.width)
        ids = self.labels.read(window)
        valid = self.features.valid(window)
        if valid is not None:
            ids = np.where(valid, ids, np.uint8(NODATA))
        if self.aoi is not None and not self.aoi.contains(window):
            ids = np.where(self.aoi.mask(window), ids, np.uint8(NODATA))
        return {
            int(class_id): _in_cells(ids == class_id, window, cells)
            for class_id in np.flatnonzero(np.bincount(ids.ravel(), minlength=256))
            if class_id not in self.without
        }


def _with_data(features: SceneFeatures, sample: Sample) -> npt.NDArray[np.int64]:
    """Return how many pixels of the cells of a sample have data."""
    found = np.zeros(len(sample.blocks), dtype=np.int64)
    for block in np.unique(sample.blocks):
        here = sample.blocks == block
        found[here] = _data(features, *divmod(int(block), features.cells.cols))[sample.places[here]]
    return found


def _data(features: SceneFeatures, row: int, col: int) -> npt.NDArray[np.int64]:
    """Return how many pixels of each cell of a block have data."""
    cells = features.cells
    window = cells.window(row, col).clip(cells.height, cells.width)
    valid = features.valid(window)
    valid = np.ones((window.height, window.width), dtype=np.bool_) if valid is None else valid
    return _in_cells(valid, window, cells)


def _in_cells(pixels: npt.NDArray[np.bool_], window: Window, cells: Cells) -> npt.NDArray[np.int64]:
    """Return how many pixels of a block (h, w) are set in each of its cells."""
    if (window.height, window.width) != (cells.block_px, cells.block_px):
        down, right = cells.block_px - window.height, cells.block_px - window.width
        pixels = np.pad(pixels, ((0, down), (0, right)))
    side, stride = cells.side, cells.stride_px
    counts: npt.NDArray[np.int64] = pixels.reshape(side, stride, side, stride).sum(axis=(1, 3), dtype=np.int64)
    return counts.ravel()


def _digest(counts: Counts) -> str:
    hasher = xxhash.xxh3_128()
    for class_id, pixels in counts.items():
        hasher.update(class_id.to_bytes(1, "little"))
        hasher.update(pixels.astype("<i8").tobytes())
    return hasher.hexdigest()
