"""Windows measured: what the features of their cells say, and what a linear model makes of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rvbuild.learn.encoders.encoder import Features
from rvbuild.learn.linear.head import Head
from rvbuild.review.suggest import space

Integers = NDArray[np.int64]
Reals = NDArray[np.float64]


class Measured(NamedTuple):
    """N windows of an image."""

    pixels: Integers
    """(N,) that count."""
    means: Integers
    """(N, F) of features, see `space.means`."""
    expected: Reals
    """(N, K): how many pixels the model expects to have each class; none without a model."""
    wrong: Reals
    """(N, K): of these, how many it expects to be wrong."""

    def taken(self, numbers: list[int]) -> Measured:
        """Return some of the windows."""
        return Measured(self.pixels[numbers], self.means[numbers], self.expected[numbers], self.wrong[numbers])


def measure(features: Features, pixels: Integers, head: Head | None) -> Measured:
    """Return what is known of windows.

    Parameters
    ----------
    features
        (N, cells of a window, F) int8.
    pixels
        (N, cells of a window): how many pixels of each cell count; at least one of each window.
    head
        The model; None if there is none.
    """
    return Measured(pixels.sum(axis=1), space.means(features, pixels), *expectations(features, pixels, head))


def expectations(features: Features, pixels: Integers, head: Head | None) -> tuple[Reals, Reals]:
    """Return `expected` and `wrong` of windows; the parameters are those of `measure`."""
    count, cells, _ = features.shape
    if head is None:
        return np.zeros((count, 0)), np.zeros((count, 0))
    scores = head.scores(features.reshape(count * cells, -1)).astype(np.float64)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares = powers / powers.sum(axis=1, keepdims=True)
    weights = pixels.reshape(-1, 1)
    expected = (shares * weights).reshape(count, cells, -1).sum(axis=1)
    wrong = (shares * (1 - shares) * weights).reshape(count, cells, -1).sum(axis=1)
    return expected, wrong


def joined(parts: list[Measured]) -> Measured:
    """Return all windows of several."""
    return Measured(*(np.concatenate(values) for values in zip(*parts, strict=True)))
