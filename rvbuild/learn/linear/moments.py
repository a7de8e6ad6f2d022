"""Sums of features by class, as exact integers: how many pixels, the sum of their features, the sums of products.

They add up: those of a scene are the sum of those of its blocks, in any order, and those of all blocks but some are a
difference. One class has `size(F)` integers: the count; the F sums; and of the symmetric matrix of products the upper
triangle, row by row.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rvbuild.learn.encoders.encoder import LIMIT, Features

Integers = NDArray[np.int64]
Reals = NDArray[np.float64]


def size(features: int) -> int:
    """Return how many integers one class has.

    >>> size(3)
    10
    """
    return 1 + features + features * (features + 1) // 2


def dtype_for(pixels: int) -> np.dtype[np.signedinteger]:
    """Return the smallest dtype that holds the sums of so many pixels."""
    return np.dtype(np.int32 if pixels * LIMIT**2 < 2**31 else np.int64)


def moments(features: Features, pixels: NDArray[np.integer]) -> Integers:
    """Return the sums (size(F),) int64 of one class.

    Parameters
    ----------
    features
        (N, F) int8, of cells.
    pixels
        (N,): how many pixels of each cell have the class.

    Notes
    -----
    Products of two features are below 2^14, and there are fewer than 2^39 pixels: float64 holds every partial sum
    exactly, so neither the order of additions nor the number of threads matters.
    """
    some = np.flatnonzero(pixels)
    values, weights = features[some].astype(np.float64), pixels[some].astype(np.float64)
    weighted = values * weights[:, np.newaxis]
    products = weighted.T @ values
    rows, cols = _upper(features.shape[1])
    found = np.concatenate([[weights.sum()], weighted.sum(axis=0), products[rows, cols]])
    return found.astype(np.int64)


class Moments(NamedTuple):
    """What sums say of K classes."""

    counts: Reals
    """(K,) pixels."""
    means: Reals
    """(K, F); 0 for a class without pixels."""
    covariances: Reals
    """(K, F, F); 0 for a class without pixels."""


def unpacked(sums: Integers, features: int) -> Moments:
    """Return the moments of sums (K, size(F))."""
    counts = sums[:, 0].astype(np.float64)
    some = np.maximum(counts, 1.0)
    means = sums[:, 1 : 1 + features] / some[:, np.newaxis]
    products = (sums[:, 1 + features :] / some[:, np.newaxis])[:, _places(features)]
    return Moments(counts, means, products - means[:, :, np.newaxis] * means[:, np.newaxis, :])


@functools.lru_cache(maxsize=4)
def _upper(features: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    rows, cols = np.triu_indices(features)
    return rows, cols


@functools.lru_cache(maxsize=4)
def _places(features: int) -> NDArray[np.intp]:
    """Return where in the upper triangle of a symmetric matrix (F, F) each of its elements is."""
    rows, cols = _upper(features)
    places = np.empty((features, features), dtype=np.intp)
    places[rows, cols] = places[cols, rows] = np.arange(len(rows))
    return places
