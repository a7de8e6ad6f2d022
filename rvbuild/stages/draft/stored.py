"""Sums on disk: those of blocks, their totals, and what makes it possible to sum only some blocks again.

* `row-00012.npy`: the sums of a row of blocks, (entries, size(F)), by block and class.
* `totals.npy`: (folds, classes, size(F)) int64.
* `sums.json`: `scene`, names of `features`, `folds`, `first_fold`, `cells`, `pixels` of each class.
* `blocks.json`: for each row its blocks: `col`, `digest` of the labels, `class_ids`. No later stage reads digests, so
  an edit that changes no pixel solves nothing again.
* `sample.npy` and `unlabelled.npy`: a sample of cells, see `rvbuild.stages.draft.sample`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt

from rvbuild.errors import DataError

DESCRIPTION, BLOCKS, TOTALS = "sums.json", "blocks.json", "totals.npy"
SAMPLE, UNLABELLED = "sample.npy", "unlabelled.npy"

Sums = npt.NDArray[np.integer[Any]]
"""(entries, size(F))."""

Totals = npt.NDArray[np.int64]
"""(folds, classes, size(F))."""


class Block(NamedTuple):
    """A block of a scene."""

    col: int
    digest: str
    """Of its labels."""
    class_ids: list[int]
    """Those that pixels have."""


class Description(TypedDict):
    """The content of `sums.json`."""

    scene: str
    features: list[str]
    cells: Mapping[str, int]
    folds: int
    first_fold: int
    pixels: list[int]
    """Of each class id."""


def row_file(row: int) -> str:
    """Return the name of the file of a row of blocks."""
    return f"row-{row:05}.npy"


def fold_of(row: int, col: int, first: int, folds: int) -> int:
    """Return the fold of a block: neighbours are in different ones, and each is spread over the whole scene."""
    return (first + 2 * row + col) % folds


class Row(NamedTuple):
    """A row of blocks."""

    file: Path | None
    """None if no block of the row has a label."""
    blocks: list[Block]

    def sums(self) -> Mapping[int, Sums]:
        """Return the sums of the classes of each block, by column, memory-mapped."""
        if self.file is None:
            return {}
        entries, found, start = np.load(self.file, mmap_mode="r"), dict[int, Sums](), 0
        for block in self.blocks:
            found[block.col] = entries[start : start + len(block.class_ids)]
            start += len(block.class_ids)
        return found


class Previous(NamedTuple):
    """A previous result; empty if there is none."""

    totals: Totals
    rows: list[Row]
    unlabelled: npt.NDArray[np.int64] | None
    """Pixels without labels of the cells of the sample; None if they are not known."""

    def row(self, number: int) -> Row:
        """Return a row of blocks."""
        return self.rows[number] if number < len(self.rows) else Row(None, [])


def read_previous(files: Mapping[str, Path], shape: tuple[int, ...], sampled: int) -> Previous:
    """Read a previous result, of which all files are needed.

    `shape` is that of the totals; `sampled` is how many cells the sample has.
    """
    nothing = Previous(np.zeros(shape, dtype=np.int64), [], None)
    try:
        totals: Totals = np.load(files[TOTALS])
        rows = _rows(files)
        unlabelled = np.load(files[UNLABELLED])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Another version's, or not complete: everything is summed.
        return nothing
    alike = totals.shape == shape and unlabelled.shape == (sampled,) and SAMPLE in files
    return Previous(totals, rows, unlabelled) if alike else nothing


def _rows(files: Mapping[str, Path]) -> list[Row]:
    found: list[Row] = []
    for number, row in enumerate(json.loads(files[BLOCKS].read_text(encoding="utf-8"))):
        blocks = [Block(**block) for block in row]
        found.append(Row(files[row_file(number)] if any(block.class_ids for block in blocks) else None, blocks))
    return found


def write_json(path: Path, content: object) -> None:
    """Write JSON with sorted keys."""
    path.write_text(json.dumps(content, sort_keys=True) + "\n", encoding="utf-8")


def read_description(files: Sequence[Path]) -> Description:
    """Return the description of a scene, from `sums.json`."""
    by_name = {path.name: path for path in files}
    content: Description = json.loads(by_name[DESCRIPTION].read_text(encoding="utf-8"))
    return content


def read_totals(files: Sequence[Path]) -> tuple[Description, Totals]:
    """Return the description and the totals of a scene, from `sums.json` and `totals.npy`."""
    return read_description(files), np.load({path.name: path for path in files}[TOTALS])


def read_all_totals(inputs: Mapping[str, Sequence[Path]]) -> tuple[Description, Totals]:
    """Return the description of a scene, and the totals of all, from `sums.json` and `totals.npy` of each.

    Raises
    ------
    DataError
        Scenes have different bands.
    """
    described: dict[str, Description] = {}
    total: Totals | None = None
    for role in sorted(inputs):
        content, sums = read_totals(inputs[role])
        described[content["scene"]] = content
        require_alike(described)
        total = sums if total is None else total + sums
    assert total is not None
    return next(iter(described.values())), total


def read_blocks(files: Sequence[Path]) -> Iterator[tuple[int, Block, Sums]]:
    """Yield the row, the block and the sums of its classes, of each block with a label, from all files of the stage."""
    for number, row in enumerate(_rows({path.name: path for path in files})):
        sums = row.sums()
        for block in row.blocks:
            if block.class_ids:
                yield number, block, sums[block.col]


def require_alike(described: Mapping[str, Description]) -> None:
    """Raise a DataError unless the sums of all scenes are of the same features."""
    (first, one), *others = described.items()
    for scene, other in others:
        if other["features"] != one["features"]:
            raise DataError(
                f"scene {scene}: has {len(other['features'])} features, scene {first} {len(one['features'])}; give all "
                "scenes the same number of bands with `channels`"
            )
