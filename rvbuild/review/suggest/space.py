"""Windows as points, so that distances tell how much two windows differ in what an encoder sees.

A point is the mean of the features of a window, whitened by the spread of all windows: a direction in which windows
hardly differ counts as much as the others. Points are whole numbers, so that products of matrices are exact, and a
distance is a function of the features alone: not of the processor, a library or the number of threads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rvbuild.learn.encoders.encoder import Features
from rvbuild.learn.linear.algebra import forward, triangle_of

Integers = NDArray[np.int64]
Reals = NDArray[np.float64]

STEPS = 16
"""Steps to one unit, of means of features and of points."""

SHRINKAGE = 0.1
"""How much of the covariance of windows is replaced by its diagonal."""

FARTHEST = 4095
"""The largest coordinate, in steps; beyond, points are clipped."""


def means(features: Features, pixels: Integers) -> Integers:
    """Return the means of the features of windows in steps, (N, F).

    Parameters
    ----------
    features
        (N, cells of a window, F) int8.
    pixels
        (N, cells of a window): how many pixels of each cell count; at least one of each window.
    """
    # Sums of products of two whole numbers, far below 2^53: exact in any order.
    sums = np.einsum("nc,ncf->nf", pixels.astype(np.float64), features.astype(np.float64))
    found: Integers = np.rint(STEPS * sums / pixels.sum(axis=1, keepdims=True)).astype(np.int64)
    return found


def whitened(values: Integers) -> Reals:
    """Return means of features (N, F) in steps as points (N, F): whole numbers of steps."""
    reals = values.astype(np.float64)
    center = np.rint(reals.sum(axis=0) / len(reals))
    apart = reals - center
    covariance = (apart.T @ apart) / len(reals)  # whole numbers below 2^24, so the sums are exact
    variances = np.diagonal(covariance).copy()
    # A feature that is the same in all windows tells nothing, and must not count without limit.
    floor = max(float(np.add.accumulate(variances)[-1]) / len(variances), 1.0) * 1e-3
    matrix = covariance * (1 - SHRINKAGE)
    matrix[np.diag_indices_from(matrix)] += SHRINKAGE * variances + floor
    points = forward(triangle_of(matrix), apart.T.copy()).T
    found: Reals = np.clip(np.rint(STEPS * points), -FARTHEST, FARTHEST)
    return found


def distances(points: Reals, others: Reals) -> Reals:
    """Return the distances (N, M) of points (N, F) from others (M, F), in units of the spread."""
    squares = (points**2).sum(axis=1)[:, np.newaxis] + (others**2).sum(axis=1) - 2 * (points @ others.T)
    found: Reals = np.sqrt(squares) / STEPS
    return found
