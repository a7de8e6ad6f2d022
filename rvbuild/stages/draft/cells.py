"""Features on disk: cells of a scene, in square blocks.

`features.npy` is (blocks, cells of a block, F) int8: blocks and their cells row by row. Blocks at the right and lower
edge are filled with zeros beyond the scene. `features.json` describes it. `valid.npy` is there if some pixels have no
data: (H, ceil(W / 8)) uint8, a bit for each pixel, the first of a byte the highest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from rvbuild.errors import DataError
from rvbuild.geo.grid import Grid
from rvbuild.geo.windows import Window
from rvbuild.learn.encoders.encoder import Features

FEATURES, DESCRIPTION, VALID = "features.npy", "features.json", "valid.npy"

Bools: TypeAlias = NDArray[np.bool_]


class Cells(NamedTuple):
    """The cells of a scene in blocks."""

    height: int
    width: int
    """Both of the scene, in pixels."""
    stride_px: int
    """The side of a cell."""
    block_px: int
    """The side of a block, a multiple of it."""

    @property
    def side(self) -> int:
        """The cells along a side of a block."""
        return self.block_px // self.stride_px

    @property
    def rows(self) -> int:
        """The rows of blocks."""
        return -(-self.height // self.block_px)

    @property
    def cols(self) -> int:
        """The columns of blocks."""
        return -(-self.width // self.block_px)

    def window(self, row: int, col: int) -> Window:
        """Return the pixels of a block, which may reach beyond the scene."""
        return Window(row * self.block_px, col * self.block_px, self.block_px, self.block_px)


class SceneFeatures:
    """The features of a scene, memory-mapped.

    Parameters
    ----------
    files
        Those of the features stage.

    Attributes
    ----------
    cells
        The cells and blocks.
    names
        Of the features.
    grid
        The pixel grid of the scene.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        by_name = {path.name: path for path in files}
        content = json.loads(by_name[DESCRIPTION].read_text(encoding="utf-8"))
        self.cells = Cells(**content["cells"])
        self.names: tuple[str, ...] = tuple(content["names"])
        crs = content["crs"]
        self.grid = Grid(
            self.cells.height,
            self.cells.width,
            Affine(*content["transform"]),
            None if crs is None else CRS.from_wkt(crs),
        )
        self._blocks: Features = np.load(by_name[FEATURES], mmap_mode="r")
        expected = (self.cells.rows * self.cells.cols, self.cells.side**2, len(self.names))
        if self._blocks.shape != expected or self._blocks.dtype != np.int8:
            raise DataError(f"{by_name[FEATURES]}: expected int8 of shape {expected}, found {self._blocks.shape}")
        self._valid = np.load(by_name[VALID], mmap_mode="r") if VALID in by_name else None

    def block(self, row: int, col: int) -> Features:
        """Return the features (cells of a block, F) of a block."""
        features: Features = self._blocks[row * self.cells.cols + col]
        return features

    def row(self, row: int) -> Features:
        """Return the features (blocks of a row, cells of a block, F)."""
        return self._blocks[row * self.cells.cols : (row + 1) * self.cells.cols]

    def valid(self, window: Window) -> Bools | None:
        """Return which pixels of a window inside the scene have data, (H, W); None if all of the scene have."""
        if self._valid is None:
            return None
        first = window.col // 8
        packed = self._valid[window.row : window.row_stop, first : -(-window.col_stop // 8)]
        bits = np.unpackbits(packed, axis=1)[:, window.col - 8 * first :][:, : window.width]
        return bits.astype(bool)


def description(cells: Cells, names: Sequence[str], grid: Grid) -> Mapping[str, object]:
    """Return the content of `features.json`."""
    return {
        "cells": cells._asdict(),
        "names": list(names),
        "transform": list(grid.transform[:6]),
        "crs": None if grid.crs is None else grid.crs.to_wkt(),
    }
