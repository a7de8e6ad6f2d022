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
    values, weights = features[some].astype(np.float32), pixels[some].astype(np.float64)
    # Most cells are of one class: without weights, BLAS computes half of a symmetric product, and in float32.
    most = float(np.bincount(pixels[some]).argmax()) if len(some) else 0.0
    is_most = weights == most
    alike = np.zeros((features.shape[1], features.shape[1]))
    same = values[is_most]
    for start in range(0, len(same), _EXACT_ROWS):
        part = same[start : start + _EXACT_ROWS]
        alike += part.T @ part
    others, rest = values[~is_most].astype(np.float64), weights[~is_most]
    products = most * alike + (others * rest[:, np.newaxis]).T @ others
    sums = weights @ values.astype(np.float64)
    rows, cols = _upper(features.shape[1])
    found = np.concatenate([[weights.sum()], sums, products[rows, cols]])
    return found.astype(np.int64)


_EXACT_ROWS = (1 << 24) // LIMIT**2
"""So many products of two features add up exactly in float32."""


class Moments(NamedTuple):
    """What sums say of K classes."""

    counts: Reals
    """(K,) pixels."""
    means: Reals
    """(K, F); 0 for a class without pixels."""
    covariances: Reals
    """(K, F, F); 0 for a class without pixels."""


class Unpacked(NamedTuple):
    """The sums of K classes as float64, which holds them exactly, with whole matrices."""

    counts: Reals
    """(K,)."""
    sums: Reals
    """(K, F)."""
    products: Reals
    """(K, F, F)."""

    def plus(self, other: Unpacked, sign: int = 1) -> Unpacked:
        """Return the sums of both; with the sign -1, those of this without the other."""
        return Unpacked(*(mine + sign * theirs for mine, theirs in zip(self, other, strict=True)))

    def moments(self) -> Moments:
        """Return their moments."""
        some = np.maximum(self.counts, 1.0)
        means = self.sums / some[:, np.newaxis]
        products = self.products / some[:, np.newaxis, np.newaxis]
        products -= means[:, :, np.newaxis] * means[:, np.newaxis, :]
        return Moments(self.counts, means, products)


def unpacked(sums: Integers, features: int) -> Unpacked:
    """Return sums (K, size(F)) as numbers to reckon with."""
    values = sums.astype(np.float64)
    return Unpacked(values[:, 0], values[:, 1 : 1 + features], values[:, 1 + features :][:, _places(features)])


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
