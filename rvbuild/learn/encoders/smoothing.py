"""Features smoothed over neighbouring cells: a linear model then decides by what surrounds a cell, and noise is less.

All features are smoothed by a triangle of nine cells along each axis, which spreads about as far as a Gaussian of two
cells. Those of finer detail than a cell come unsmoothed as well, for objects of a few pixels.
"""

from __future__ import annotations

import numpy as np

from rvbuild.learn.encoders.encoder import Encoder, Floats
from rvbuild.learn.encoders.pooling import boxed

BOX = 5
"""The side of the box, in cells, that is applied twice: together they are the triangle."""


class Smoothed:
    """An encoder whose features are smoothed.

    Parameters
    ----------
    encoder
        The encoder.
    stride_px
        The side of a cell.
    """

    def __init__(self, encoder: Encoder, stride_px: int) -> None:
        self._encoder = encoder
        self._fine = [number for number, side in enumerate(encoder.sides_px) if side < stride_px]
        self.multiple_px = encoder.multiple_px
        self.margin_px = encoder.margin_px + (BOX - 1) * stride_px
        self.names = (*(encoder.names[n] for n in self._fine), *(f"{name}, smoothed" for name in encoder.names))
        self.sides_px = (*(encoder.sides_px[n] for n in self._fine), *(max(stride_px, s) for s in encoder.sides_px))

    def __call__(self, image: Floats) -> Floats:
        """Return the features of an image; see `rvbuild.learn.encoders.encoder.Encoder`."""
        maps = self._encoder(image)
        # One map at a time: it stays in the cache of the processor.
        return np.concatenate([maps[self._fine], *(boxed(boxed(m, BOX), BOX)[np.newaxis] for m in maps)])
