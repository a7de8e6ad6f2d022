"""A sample of the cells of a scene, whose pixels without labels count where a model divides classes.

* `sample.npy`: their features, (N, F) int8. They do not depend on labels.
* `unlabelled.npy`: how many pixels of each have data and no label that counts, (N,) int64.

Any number of the first ones is evenly spread over the scene.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rvbuild.learn.encoders.encoder import Features
from rvbuild.learn.linear.solve import Unlabelled
from rvbuild.stages.draft.cells import Cells, SceneFeatures
from rvbuild.stages.draft.stored import SAMPLE, UNLABELLED, read_description

CELLS = 1024
"""Of a scene, at the most."""

MOST = 4096
"""Cells of all scenes that a model is solved with."""

RATIO = 1.32471795724474602596
"""The generalised golden ratio of two dimensions: places by its powers are evenly spread (Roberts 2018)."""

Integers = npt.NDArray[np.int64]
Places = npt.NDArray[np.intp]


class Sample(NamedTuple):
    """Places of N cells."""

    blocks: Places
    """(N,): the number of the block of each, row by row."""
    places: Places
    """(N,): the number of the cell in its block, row by row."""

    def features(self, scene: SceneFeatures) -> Features:
        """Return their features (N, F)."""
        found = np.zeros((len(self.blocks), len(scene.names)), dtype=np.int8)
        for block in np.unique(self.blocks):
            here = self.blocks == block
            found[here] = scene.block(*divmod(int(block), scene.cells.cols))[self.places[here]]
        return found


def sample_of(cells: Cells) -> Sample:
    """Return the sample of a scene: it depends on its size alone."""
    rows, cols = -(-cells.height // cells.stride_px), -(-cells.width // cells.stride_px)
    numbers = np.arange(1, CELLS + 1)
    row = (((0.5 + numbers / RATIO) % 1) * rows).astype(np.intp)
    col = (((0.5 + numbers / RATIO**2) % 1) * cols).astype(np.intp)
    first = np.sort(np.unique(row * cols + col, return_index=True)[1])
    (block_row, row), (block_col, col) = (divmod(each[first], cells.side) for each in (row, col))
    return Sample(block_row * cells.cols + block_col, row * cells.side + col)


def read_unlabelled(inputs: Mapping[str, Sequence[Path]]) -> Unlabelled | None:
    """Return the cells without labels of all training scenes, given the files of their sums; None if there are none."""
    features, pixels = list[Features](), list[npt.NDArray[np.float64]]()
    for role in sorted(inputs):
        files = {path.name: path for path in inputs[role]}
        cells = Cells(**read_description(inputs[role])["cells"])
        counts: Integers = np.load(files[UNLABELLED])[: max(MOST // len(inputs), 1)]
        some = np.flatnonzero(counts)
        # Each stands for as many cells of the scene.
        every = -(-cells.height // cells.stride_px) * -(-cells.width // cells.stride_px)
        features.append(np.load(files[SAMPLE], mmap_mode="r")[some])
        pixels.append(counts[some].astype(np.float64) * (every / len(counts)))
    if not sum(map(len, pixels)):
        return None
    return Unlabelled(np.concatenate(features), np.concatenate(pixels))
