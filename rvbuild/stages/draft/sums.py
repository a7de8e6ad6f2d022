"""The sums stage: features of one training scene summed by block and class, as exact integers.

A pixel counts if it has a label and data, and lies in the area of interest; it has the features of its cell. The null
class counts where it means the background of objects.

`row-00012.npy` holds the sums of a row of blocks: (entries, size(F)), for each block and class with pixels, in this
order. `totals.npy` is (folds, classes, size(F)) int64. `sums.json` describes both, with a digest of the labels of each
block; the folds of blocks are `fold_of`. After an edit of labels, only blocks whose digest differs are summed again,
and the total becomes what it would be in one pass, because integers add up exactly.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from rvbuild import tasks
from rvbuild.errors import DataError
from rvbuild.geo.area.aoi import Aoi, open_aoi
from rvbuild.geo.classes import NODATA
from rvbuild.geo.windows import Window
from rvbuild.learn.linear import moments
from rvbuild.progress import Progress
from rvbuild.stages.draft.cells import Cells, SceneFeatures
from rvbuild.stages.draft.settings import SumsSettings
from rvbuild.tasks.protocol import PixelLabels

DESCRIPTION, TOTALS = "sums.json", "totals.npy"

Counts = dict[int, npt.NDArray[np.int64]]
"""Class id → how many pixels of each cell of a block have it, (cells of a block,)."""


class Block(NamedTuple):
    """A block with labels."""

    col: int
    digest: str
    """Of its labels."""
    class_ids: list[int]
    """Those that pixels have."""


def row_file(row: int) -> str:
    """Return the name of the file of a row of blocks."""
    return f"row-{row:05}.npy"


def fold_of(row: int, col: int, first: int, folds: int) -> int:
    """Return the fold of a block: neighbours are in different ones, and each is spread over the whole scene."""
    return (first + 2 * row + col) % folds


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
        Receives `sums.json`, `totals.npy`, and `row-*.npy` of each row of blocks with a label.
    progress
        Receives progress, in blocks.
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
    cells, count = features.cells, len(features.names)
    aoi = open_aoi(inputs.get("aoi", ()), features.grid, settings.get("area"))
    classes, null_id = settings["classes"], settings["null_id"]
    without = (NODATA,) if settings["background"] else (NODATA, null_id)
    before = _Before.read(previous or {}, (settings["folds"], len(classes), moments.size(count)))
    totals = before.totals.copy()
    dtype = moments.dtype_for(cells.block_px**2)
    task = tasks.get(settings["task"])
    rows: dict[int, list[Block]] = {}
    kept: list[str] = []
    progress.start(f"sum {settings['scene']}", cells.rows * cells.cols, "blocks")
    with closing(task.pixel_labels(inputs["labels"], settings["labels"], features.grid, classes, null_id)) as labels:
        for row in range(cells.rows):
            blocks, entries, same = list[Block](), list[npt.NDArray[np.int64]](), True
            known = before.row(row)
            for col in range(cells.cols):
                window = cells.window(row, col).clip(cells.height, cells.width)
                if aoi is not None and not aoi.intersects(window):
                    progress.advance()
                    continue
                counts: Counts | None = None
                digest = labels.digest(window)
                if digest is None:
                    counts = _counts(labels, aoi, features, cells, row, col, without)
                    digest = _digest(counts)
                old = known.blocks.get(col)
                if old is not None and old.digest == digest:
                    blocks.append(old)
                    entries += known.sums(col)
                else:
                    same = False
                    if counts is None:
                        counts = _counts(labels, aoi, features, cells, row, col, without)
                    sums = [moments.moments(features.block(row, col), pixels) for pixels in counts.values()]
                    blocks.append(Block(col, digest, list(counts)))
                    entries += sums
                    fold = fold_of(row, col, settings["first_fold"], settings["folds"])
                    for class_id, values in zip(() if old is None else old.class_ids, known.sums(col), strict=True):
                        totals[fold, class_id] -= values
                    for class_id, values in zip(counts, sums, strict=True):
                        totals[fold, class_id] += values
                progress.advance()
            rows[row] = blocks
            if same and known.file is not None:
                kept.append(row_file(row))
            elif entries:
                np.save(outputs / row_file(row), np.stack(entries).astype(dtype))
        for note in labels.notes:
            progress.note(note)
    np.save(outputs / TOTALS, totals)
    content = {
        "scene": settings["scene"],
        "features": list(features.names),
        "cells": cells._asdict(),
        "folds": settings["folds"],
        "first_fold": settings["first_fold"],
        "pixels": totals[:, :, 0].sum(axis=0).tolist(),
        "rows": [[block._asdict() for block in rows[row]] for row in range(cells.rows)],
    }
    (outputs / DESCRIPTION).write_text(json.dumps(content, sort_keys=True) + "\n", encoding="utf-8")
    return kept


class _Row(NamedTuple):
    """A row of blocks of the previous result."""

    file: Path | None
    """None if no block of the row has a label."""
    blocks: Mapping[int, Block]
    """By column."""

    def sums(self, col: int) -> list[npt.NDArray[np.int64]]:
        """Return the sums of the classes of a block."""
        block = self.blocks.get(col)
        if self.file is None or block is None:
            return []
        start = sum(len(other.class_ids) for other in self.blocks.values() if other.col < col)
        entries = np.load(self.file, mmap_mode="r")[start : start + len(block.class_ids)]
        return [values.astype(np.int64) for values in entries]


class _Before(NamedTuple):
    """The previous result; empty if there is none."""

    totals: npt.NDArray[np.int64]
    rows: Mapping[int, _Row]

    @classmethod
    def read(cls, files: Mapping[str, Path], shape: tuple[int, ...]) -> _Before:
        """Read the files of a previous result, all of which are needed."""
        nothing = cls(np.zeros(shape, dtype=np.int64), {})
        try:
            content: Any = json.loads(files[DESCRIPTION].read_text(encoding="utf-8"))
            totals: npt.NDArray[np.int64] = np.load(files[TOTALS])
            rows: dict[int, _Row] = {}
            for number, row in enumerate(content["rows"]):
                blocks = {block["col"]: Block(**block) for block in row}
                some = any(block.class_ids for block in blocks.values())
                rows[number] = _Row(files[row_file(number)] if some else None, blocks)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return nothing  # another version's, or not complete: everything is summed
        return cls(totals, rows) if totals.shape == shape else nothing

    def row(self, number: int) -> _Row:
        """Return a row of blocks."""
        return self.rows.get(number, _Row(None, {}))


def _counts(
    labels: PixelLabels,
    aoi: Aoi | None,
    features: SceneFeatures,
    cells: Cells,
    row: int,
    col: int,
    without: Collection[int],
) -> Counts:
    """Return how many pixels of each cell of a block have each class."""
    whole = cells.window(row, col)
    window = whole.clip(cells.height, cells.width)
    ids = labels.read(window)
    valid = features.valid(window)
    if valid is not None:
        ids = np.where(valid, ids, np.uint8(NODATA))
    if aoi is not None and not aoi.contains(window):
        ids = np.where(aoi.mask(window), ids, np.uint8(NODATA))
    return {
        int(class_id): _in_cells(ids == class_id, window, cells)
        for class_id in np.flatnonzero(np.bincount(ids.ravel(), minlength=256))
        if class_id not in without
    }


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


def read_totals(files: Sequence[Path]) -> tuple[Mapping[str, Any], npt.NDArray[np.int64]]:
    """Return the description and the totals (folds, classes, size(F)) of a scene."""
    by_name = {path.name: path for path in files}
    content: Mapping[str, Any] = json.loads(by_name[DESCRIPTION].read_text(encoding="utf-8"))
    return content, np.load(by_name[TOTALS])


def read_blocks(files: Sequence[Path]) -> Iterator[tuple[int, Block, npt.NDArray[np.integer[Any]]]]:
    """Yield the row, the block and the sums (classes of the block, size(F)) of each block with a label.

    Parameters
    ----------
    files
        Those of the sums stage, with its rows.
    """
    by_name = {path.name: path for path in files}
    content = json.loads(by_name[DESCRIPTION].read_text(encoding="utf-8"))
    for row, blocks in enumerate(content["rows"]):
        if not any(block["class_ids"] for block in blocks):
            continue
        entries, start = np.load(by_name[row_file(row)], mmap_mode="r"), 0
        for block in (Block(**block) for block in blocks):
            stop = start + len(block.class_ids)
            if stop > start:
                yield row, block, entries[start:stop]
            start = stop


def require_alike(described: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise a DataError unless the sums of all scenes are of the same features and folds."""
    (first, one), *others = described.items()
    for scene, other in others:
        if other["features"] != one["features"]:
            raise DataError(
                f"scene {scene}: has {len(other['features'])} features, scene {first} {len(one['features'])}; give all "
                "scenes the same number of bands with `channels`"
            )
