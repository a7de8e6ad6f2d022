"""A linear model of classes, solved from sums of features.

Directions are those of linear discriminant analysis: the inverse of the shrunken covariance within classes, times the
means of the classes. Ridge regression to one-hot targets spans the same directions. How much is shrunk, how large the
scores of the directions have to be to mean probabilities, and where the classes are divided, is decided on blocks that
a model has not seen: the model of a fold is solved from the total of the sums minus those of the fold, and the sums of
the fold say which mean and covariance its scores have there. No feature is read again.

The division of classes maximises the expected mean IoU, with the scores of each class normally distributed: a rare
class wins earlier than by its probability alone (for one class, the best threshold of the probability is J / (1 + J) if
the IoU is J; see Lipton, Elkan and Naryanaswamy 2014).
"""

from __future__ import annotations

import functools
import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from rvbuild.learn.linear.algebra import product, solved
from rvbuild.learn.linear.moments import Integers, Moments, Reals, Unpacked, unpacked

STRONG, WEAK = 0.2, 0.002
"""The shrinkages that are tried."""

DRAWS, LEAST_DRAWS = 4096, 256
"""Points that stand for the scores of all classes, and of one of many classes at the least."""

COARSE = tuple(step / 2 for step in range(-6, 7))
FINE = (-0.375, -0.25, -0.125, 0.125, 0.25, 0.375)
"""What is tried to be added to the score of a class, in log-odds; then, to what was best."""


WORTH = 0.002
"""How much an offset has to raise the mean IoU for each unit of log-odds: where classes hardly meet, none is needed."""


class Solution(NamedTuple):
    """A linear model: score k of features x is x · weights[:, k] + biases[k], a log-probability but for a constant."""

    weights: Reals
    """(F, K)."""
    biases: Reals
    """(K,); -inf for a class without pixels."""
    offsets: Reals
    """(K,): added to the scores where classes are decided."""
    shrinkage: float
    expected: float
    """The mean IoU that is expected on unseen blocks, of the training data's kind."""
    folds: int
    """How many folds have been left out; 0 if there are fewer than two, so that nothing is unseen."""


class _Scores(NamedTuple):
    """Means and covariances of the scores of classes."""

    counts: Reals
    means: Reals
    """(K, D)."""
    products: Reals
    """(K, D, D): means of products."""


def solve(sums: Integers, features: int, cell_pixels: int = 16) -> Solution:
    """Return the model of the sums of some blocks.

    Parameters
    ----------
    sums
        (folds, K, size(F)) int64: the sums of each fold and class. At least one class has pixels.
    features
        F.
    cell_pixels
        The pixels of a cell: they have the same features.
    """
    used = [fold for fold in range(len(sums)) if sums[fold, :, 0].any()]
    folds = [unpacked(sums[fold], features) for fold in used]
    every = functools.reduce(Unpacked.plus, folds)
    total = every.moments()
    unseen = len(used) > 1 and len(_present(total)) > 1
    without = [every.plus(fold, -1).moments() for fold in folds] if unseen else []
    within = [fold.moments() for fold in folds] if unseen else []
    best: _Division | None = None
    for shrinkage in _shrinkages(float(total.counts.sum()) / cell_pixels, features) if unseen else (STRONG,):
        if unseen:
            parts = [_scores(held, directions(rest, shrinkage)) for rest, held in zip(without, within, strict=True)]
        else:
            parts = [_scores(total, directions(total, shrinkage))]
        candidate = _divided(_merged(parts), shrinkage)
        if best is None or candidate.expected > best.expected:
            best = candidate
    assert best is not None
    return Solution(
        product(directions(total, best.shrinkage), best.turned),
        best.biases,
        best.offsets,
        best.shrinkage,
        best.expected,
        len(used) if unseen else 0,
    )


def _shrinkages(cells: float, features: int) -> list[float]:
    """Return what is tried, from the strongest: of equals, the first is taken. Few cells need strong shrinkage."""
    weak = max(WEAK, features / cells)
    return [STRONG, weak] if weak < STRONG else [STRONG]


class _Division(NamedTuple):
    """How scores of directions become log-probabilities, and where classes are divided."""

    turned: Reals
    """(D, K)."""
    biases: Reals
    offsets: Reals
    shrinkage: float
    expected: float


def directions(moments: Moments, shrinkage: float) -> Reals:
    """Return the weights (F, K) of the directions that tell classes apart, scaled to a spread of about 1.

    Parameters
    ----------
    moments
        Of the classes.
    shrinkage
        How much of the covariance within classes is replaced by its diagonal, from 0 to 1.
    """
    total = max(float(moments.counts.sum()), 1.0)
    shares = moments.counts / total
    center = (shares[:, np.newaxis] * moments.means).sum(axis=0)
    within = (shares[:, np.newaxis, np.newaxis] * moments.covariances).sum(axis=0)
    variances = np.diagonal(within).copy()
    # Features that never vary within a class would be trusted without limit.
    floor = max(float(variances.mean()), 1.0) * 1e-3
    matrix = within * (1 - shrinkage)
    matrix[np.diag_indices_from(matrix)] += shrinkage * variances + floor
    present = moments.counts > 0
    return solved(matrix, np.where(present[:, np.newaxis], moments.means - center, 0.0).T)


def _present(moments: Moments) -> list[int]:
    return [int(k) for k in np.flatnonzero(moments.counts)]


def _scores(moments: Moments, weights: Reals) -> _Scores:
    """Return the moments of the scores that weights (F, K) give to the pixels of classes."""
    means = product(moments.means, weights)
    products = np.stack([product(product(covariance, weights).T, weights) for covariance in moments.covariances]) + (
        means[:, :, np.newaxis] * means[:, np.newaxis, :]
    )
    return _Scores(moments.counts, means, products)


def _merged(parts: list[_Scores]) -> _Scores:
    """Return the moments of the scores of all parts."""
    counts = sum((part.counts for part in parts), np.zeros_like(parts[0].counts))
    some = np.maximum(counts, 1.0)
    means, products = np.zeros_like(parts[0].means), np.zeros_like(parts[0].products)
    for part in parts:
        share = part.counts / some
        means += share[:, np.newaxis] * part.means
        products += share[:, np.newaxis, np.newaxis] * part.products
    return _Scores(counts, means, products)


def _divided(scores: _Scores, shrinkage: float) -> _Division:
    """Return how scores become log-probabilities, given how they are distributed."""
    classes = len(scores.counts)
    shares = scores.counts / scores.counts.sum()
    covariances = scores.products - scores.means[:, :, np.newaxis] * scores.means[:, np.newaxis, :]
    within = (shares[:, np.newaxis, np.newaxis] * covariances).sum(axis=0)
    # The directions of all classes together are one too many.
    within[np.diag_indices_from(within)] += max(float(np.trace(within)) / classes, 1e-12) * 1e-3
    turned = solved(within, scores.means.T)
    biases = np.full(classes, -np.inf)
    for k in range(classes):
        if shares[k] > 0:
            biases[k] = math.log(shares[k]) - float((turned[:, k] * scores.means[k]).sum()) / 2
    drawn = np.stack([_drawn(mean, covariance) for mean, covariance in zip(scores.means, covariances, strict=True)])
    logs = np.stack([product(points, turned) + biases for points in drawn])
    offsets, expected = _offsets(logs, shares)
    return _Division(turned, biases, offsets, shrinkage, expected)


def _drawn(mean: Reals, covariance: Reals) -> Reals:
    """Return points (N, K) that are distributed normally, the same for the same moments."""
    count = len(mean)
    lower = np.zeros_like(covariance)
    for k in range(count):  # Cholesky's decomposition of a matrix that need not have full rank
        rest = covariance[k:, k] - (lower[k:, :k] * lower[k, :k]).sum(axis=1)
        if rest[0] > 1e-9 * max(float(covariance[k, k]), 1e-12):
            lower[k:, k] = rest / math.sqrt(float(rest[0]))
    return mean + product(_normal(count), lower.T.copy())


@functools.lru_cache(maxsize=4)
def _normal(count: int) -> Reals:
    """Return points of a normal distribution of `count` dimensions, evenly spread: an additive recurrence."""
    # By the generalised golden ratio (Roberts 2018).
    ratio = 2.0
    for _ in range(60):
        ratio = (1 + ratio) ** (1 / (count + 1))
    inverse = NormalDist().inv_cdf
    points = [
        [inverse(min(max((0.5 + (n + 1) * ratio ** -(d + 1)) % 1, 1e-6), 1 - 1e-6)) for d in range(count)]
        for n in range(max(DRAWS // count, LEAST_DRAWS))
    ]
    return np.array(points)


def _offsets(logs: Reals, shares: Reals) -> tuple[Reals, float]:
    """Return what to add to scores for the best expected mean IoU, and this.

    Parameters
    ----------
    logs
        (K, N, K): the scores of points of each class.
    shares
        (K,) of the pixels of each class.
    """
    classes = [int(k) for k in np.flatnonzero(shares > 0)]
    offsets = np.zeros(len(shares))
    best = _expected(logs, shares, offsets)
    for steps in (COARSE, FINE):
        for k in classes[:-1] if len(classes) == 2 else classes:
            center = 0.0 if steps is COARSE else float(offsets[k])
            for step in steps:
                tried = offsets.copy()
                tried[k] = center + step
                if (worth := _expected(logs, shares, tried) - WORTH * float(np.abs(tried).sum())) > best:
                    best, offsets = worth, tried
    return offsets, _expected(logs, shares, offsets)


def _expected(logs: Reals, shares: Reals, offsets: Reals) -> float:
    """Return the mean IoU over the classes that have pixels, to six digits: less is noise."""
    decided = (logs + offsets).argmax(axis=2)
    classes = len(shares)
    # The share of the points of each class (rows) that is decided as each class (columns).
    confusion = np.stack([np.bincount(row, minlength=classes) for row in decided]) / logs.shape[1]
    confusion = confusion * shares[:, np.newaxis]
    hits = np.diagonal(confusion)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - hits
    some = shares > 0
    return round(float((hits[some] / union[some]).mean()), 6)
