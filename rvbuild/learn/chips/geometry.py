"""Changes of training chips that move pixels: the labels and what is valid move with them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from rvbuild.learn.chips.valid import valid_of
from rvbuild.learn.hooks import Sample, TargetOps


class Geometry:
    """Turns, crops and scales chips.

    Parameters
    ----------
    ops
        What is done to the targets of the task.
    """

    def __init__(self, ops: TargetOps) -> None:
        self._ops = ops

    def flip(self, sample: Sample, rng: np.random.Generator, args: Mapping[str, float]) -> Sample:
        """Return a sample that is mirrored or not, in each direction."""
        mirror, upside_down = (bool(bit) for bit in rng.integers(2, size=2))
        # Top to bottom is left to right, turned by half.
        return self._orient(sample, mirror != upside_down, 2 if upside_down else 0)

    def rotate90(self, sample: Sample, rng: np.random.Generator, args: Mapping[str, float]) -> Sample:
        """Return a sample that is turned by quarter turns."""
        return self._orient(sample, False, int(rng.integers(4)))

    def crop(self, sample: Sample, rng: np.random.Generator, args: Mapping[str, float]) -> Sample:
        """Return a random square part of a sample, at the size of the sample."""
        if rng.random() >= args["probability"]:
            return sample
        size = sample.image.shape[-1]
        side = int(rng.integers(max(1, math.ceil(args["min"] * size)), size + 1))
        row, col = rng.integers(size - side + 1, size=2)
        return self._window(sample, int(row), int(col), side)

    def scale(self, sample: Sample, rng: np.random.Generator, args: Mapping[str, float]) -> Sample:
        """Return a sample with everything larger or smaller by a factor; every factor is as likely as its inverse."""
        if rng.random() >= args["probability"]:
            return sample
        size = sample.image.shape[-1]
        factor = math.exp(rng.uniform(math.log(args["min"]), math.log(args["max"])))
        side = max(1, round(size / factor))
        # Of a larger window, the sample is somewhere inside it.
        row, col = rng.integers(min(0, size - side), max(0, size - side) + 1, size=2)
        return self._window(sample, int(row), int(col), side)

    def _orient(self, sample: Sample, mirror: bool, quarter_turns: int) -> Sample:
        if not mirror and not quarter_turns:
            return sample
        return Sample(
            image=orient(sample.image, mirror, quarter_turns),
            valid=None if sample.valid is None else orient(sample.valid, mirror, quarter_turns),
            target=self._ops.orient(sample.target, mirror, quarter_turns, sample.image.shape[-1]),
        )

    def _window(self, sample: Sample, row: int, col: int, side: int) -> Sample:
        """Return a square window of a sample at the size of the sample; what is outside of the sample is null."""
        from rvbuild.geo.raster.resample import resample  # it imports rasterio, and loader processes start often

        size = sample.image.shape[-1]
        if side == size:
            return sample
        image, valid = padded(sample.image, row, col, side, 0), padded(valid_of(sample), row, col, side, False)
        image, valid = resample(image, valid, size)
        assert self._ops.window is not None
        target = self._ops.window(sample.target, row, col, side, size)
        return Sample(image, None if valid.all() else valid, target)


def orient(array: np.ndarray, mirror: bool, quarter_turns: int) -> np.ndarray:
    """Return a view of `(..., H, W)`, mirrored left to right (or not), then turned counter-clockwise."""
    view = array[..., ::-1] if mirror else array
    turned: np.ndarray = np.rot90(view, quarter_turns, axes=(-2, -1))
    return turned


def padded(array: np.ndarray, row: int, col: int, side: int, fill: object) -> np.ndarray:
    """Return a square window of `(..., H, W)`, which may overhang it: there it is filled."""
    height, width = array.shape[-2:]
    if row >= 0 and col >= 0 and row + side <= height and col + side <= width:
        inside: np.ndarray = array[..., row : row + side, col : col + side]
        return inside
    result = np.full((*array.shape[:-2], side, side), fill, dtype=array.dtype)
    rows = slice(max(0, row), min(height, row + side))
    cols = slice(max(0, col), min(width, col + side))
    result[..., rows.start - row : rows.stop - row, cols.start - col : cols.stop - col] = array[..., rows, cols]
    return result
