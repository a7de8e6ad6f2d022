"""Cells that a project classifies, by the map of a draft."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from rvbuild.geo.grid import Grid
from rvbuild.geo.windows import Window
from rvbuild.stages.draft.pooled import STEPS, PooledCells
from rvbuild.tasks.classification.cells import read_cells

HEIGHT, WIDTH, STRIDE = 50, 37, 4


@pytest.mark.parametrize("side", [4, 7, 15, 64])
def test_a_cell_has_the_mean_of_its_pixels(tmp_path: Path, side: int) -> None:
    rng = np.random.default_rng(side)
    rows, cols = -(-HEIGHT // STRIDE), -(-WIDTH // STRIDE)
    probabilities = rng.integers(0, STEPS + 1, (2, rows, cols)) / STEPS
    known = rng.random((rows, cols)) < 0.8
    known[:2, :2] = False
    pooled = PooledCells(Grid(HEIGHT, WIDTH, Affine.identity(), None), side, STRIDE, [0, 1, 3], (0, 3))
    for start in range(0, rows, 8):
        part = slice(start, start + 8)
        pooled.add(start, probabilities[:, part].astype(np.float32), known[part])
    pooled.write(tmp_path / "cells.json")
    cells = read_cells(tmp_path / "cells.json")
    pixels, has = (
        np.repeat(np.repeat(values, STRIDE, axis=-2), STRIDE, axis=-1)[..., :HEIGHT, :WIDTH]
        for values in (probabilities, known)
    )
    for row in range(cells.scores.shape[0]):
        for column in range(cells.scores.shape[1]):
            part = cells.window(row, column).clip(HEIGHT, WIDTH).slices_in(Window(0, 0, HEIGHT, WIDTH))
            some = has[part]
            assert cells.predicted[row, column] == some.any()
            if some.any():
                means = pixels[:, *part][:, some].mean(axis=1)
                np.testing.assert_allclose(cells.scores[row, column], [means[0], 0, means[1]], atol=1e-6)
