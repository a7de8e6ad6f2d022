"""The encoder without weights: fixed random filters at several scales, in the manner of a scattering transform.

At each scale of an image pyramid, 3 x 3 filters of whole numbers answer to edges and textures; the sizes of the answers
are pooled, and filtered once more. Beside them stand means and contrasts of the bands in windows of several sizes. All
matrix products are of whole numbers that float32 holds exactly, and all else is done element by element, so the
features are the same bytes on every machine. It has learned nothing, and is weaker than an encoder with weights.
"""

from __future__ import annotations

import numpy as np

from rvbuild.learn.encoders.encoder import Floats, signs
from rvbuild.learn.encoders.pooling import enlarged, pooled

SCALES = (1, 2, 4, 8)
"""Of the pyramid, in pixels of the image."""

WINDOWS = (1, 4, 8)
"""Of means and contrasts, in cells."""

FIRST, SECOND = 12, 12
"""The number of filters of a scale, of the image and of the answers."""


class RandomFilters:
    """The features of random filters.

    Parameters
    ----------
    bands
        How many bands images have.
    stride_px
        The side of a cell.
    """

    margin_px = 64

    def __init__(self, bands: int, stride_px: int) -> None:
        self._stride = stride_px
        self.multiple_px = max(32, WINDOWS[-1] * stride_px)
        self._first = [_zero_sum(signs((FIRST, bands * 9), 2 * number + 2)) for number in range(len(SCALES))]
        self._second = [signs((SECOND, FIRST * 9), 2 * number + 3) for number in range(len(SCALES))]
        self.names = (
            *(f"{what} {band} in {window * stride_px} px" for window in WINDOWS for what in ("mean", "contrast")
              for band in range(bands)),
            *(f"filter {n} at {scale} px" for scale in SCALES for n in range(FIRST)),
            *(f"filter {n} of filters at {2 * scale} px" for scale in SCALES for n in range(SECOND)),
        )  # fmt: skip
        self.sides_px = (
            *(1 if window == 1 else window * stride_px for window in WINDOWS for _ in range(2 * bands)),
            *(scale for scale in SCALES for _ in range(FIRST)),
            *(2 * scale for scale in SCALES for _ in range(SECOND)),
        )

    def __call__(self, image: Floats) -> Floats:
        """Return the features of an image; see `rvbuild.learn.encoders.encoder.Encoder`."""
        pixels = np.rint(image * np.float32(255))
        return np.concatenate([*self._windows(pixels), *self._filters(pixels)])

    def _windows(self, pixels: Floats) -> list[Floats]:
        found: list[Floats] = []
        for window in WINDOWS:
            side = self._stride * window
            mean = pooled(pixels, side)
            square = pooled(pixels * pixels, side)
            contrast = np.sqrt(np.maximum(square - mean * mean, 0))
            found += [enlarged(mean, window), enlarged(contrast, window)]
        return found

    def _filters(self, pixels: Floats) -> list[Floats]:
        first: list[Floats] = []
        second: list[Floats] = []
        for scale, filters, others in zip(SCALES, self._first, self._second, strict=True):
            answers = np.abs(_filtered(np.rint(pooled(pixels, scale)), filters))
            first.append(self._to_cells(answers, scale))
            # Smaller, so that sums of the next products are exact.
            again = np.abs(_filtered(np.rint(pooled(answers, 2) * np.float32(1 / 32)), others))
            second.append(self._to_cells(again, 2 * scale))
        return [*first, *second]

    def _to_cells(self, maps: Floats, scale: int) -> Floats:
        """Return maps whose pixels have a side of `scale` as those of cells."""
        if scale <= self._stride:
            return pooled(maps, self._stride // scale)
        return enlarged(maps, scale // self._stride)


def _zero_sum(filters: Floats) -> Floats:
    """Return filters (K, N) that answer to differences only, still of whole numbers."""
    differences: Floats = filters * np.float32(filters.shape[1]) - filters.sum(axis=1, keepdims=True)
    return differences


def _filtered(maps: Floats, filters: Floats) -> Floats:
    """Return the answers (K, H, W) of filters (K, N * 9) to maps (N, H, W); edges are repeated."""
    count, height, width = maps.shape
    around = np.pad(maps, ((0, 0), (1, 1), (1, 1)), mode="edge")
    windows = np.empty((count, 9, height, width), dtype=np.float32)
    for place in range(9):
        row, col = divmod(place, 3)
        windows[:, place] = around[:, row : row + height, col : col + width]
    answers: Floats = (filters @ windows.reshape(count * 9, height * width)).reshape(-1, height, width)
    return answers
