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
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rvbuild.learn.linear.algebra import product, products, solved
from rvbuild.learn.linear.moments import Integers, Moments, Reals, Unpacked, unpacked

STRONG, WEAK = 0.2, 0.002
"""The shrinkages that are tried."""

DRAWS, LEAST_DRAWS = 4096, 256
"""Points that stand for the scores of all classes, and of one of many classes at the least."""

COARSE = tuple(step / 2 for step in range(-6, 7))
FINE = (-0.375, -0.25, -0.125, 0.125, 0.25, 0.375)
"""What is tried to be added to the score of a class, in log-odds; then, to what was best."""


TOGETHER_BYTES = 1 << 20
"""Of the matrices that are decomposed at the same time: they should fit into the cache of a processor."""

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

    def among(self, present: NDArray[np.intp], classes: int) -> _Scores:
        """Return those of all classes, of which these are present; a direction belongs to each."""
        counts, means, products = (np.zeros((classes,) * n) for n in (1, 2, 3))
        counts[present] = self.counts
        means[np.ix_(present, present)] = self.means
        products[np.ix_(present, present, present)] = self.products
        return _Scores(counts, means, products)


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
    present = np.flatnonzero(sums[:, :, 0].any(axis=0))
    folds = [unpacked(sums[fold, present], features) for fold in used]
    every = functools.reduce(Unpacked.plus, folds)
    total = every.moments()
    unseen = len(used) > 1 and len(present) > 1
    shrinkages = _shrinkages(float(total.counts.sum()) / cell_pixels, features) if unseen else [STRONG]
    seen = [every.plus(fold, -1).moments() for fold in folds] if unseen else []
    held = [fold.moments() for fold in folds] if unseen else [total]
    weights = directions([*seen, total], shrinkages)
    best: tuple[_Division, Reals] | None = None
    parts = [_scores(moments, found) for moments, found in zip(held, weights, strict=False)]
    for number, shrinkage in enumerate(shrinkages):
        scores = _merged([part[number] for part in parts])
        candidate = _divided(scores.among(present, sums.shape[1]), shrinkage)
        if best is None or candidate.expected > best[0].expected:
            best = candidate, weights[-1, number]
    assert best is not None
    division, of_all = best
    every_class = np.zeros((features, sums.shape[1]))
    every_class[:, present] = of_all
    return Solution(
        product(every_class, division.turned),
        division.biases,
        division.offsets,
        division.shrinkage,
        division.expected,
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


def directions(moments: Sequence[Moments], shrinkages: Sequence[float]) -> Reals:
    """Return the weights (M, S, F, K) of the directions that tell classes apart, scaled to a spread of about 1.

    Parameters
    ----------
    moments
        (M,) of the classes of some blocks.
    shrinkages
        (S,): how much of the covariance within classes is replaced by its diagonal, from 0 to 1.
    """
    matrices, rights = list[Reals](), list[Reals]()
    for blocks in moments:
        total = max(float(blocks.counts.sum()), 1.0)
        shares = blocks.counts / total
        center = (shares[:, np.newaxis] * blocks.means).sum(axis=0)
        within = (shares[:, np.newaxis, np.newaxis] * blocks.covariances).sum(axis=0)
        variances = np.diagonal(within).copy()
        # Features that never vary within a class would be trusted without limit.
        floor = max(float(variances.mean()), 1.0) * 1e-3
        present = blocks.counts > 0
        right = np.where(present[:, np.newaxis], blocks.means - center, 0.0).T
        for shrinkage in shrinkages:
            matrix = within * (1 - shrinkage)
            matrix[np.diag_indices_from(matrix)] += shrinkage * variances + floor
            matrices.append(matrix)
            rights.append(right)
    at_once = max(1, TOGETHER_BYTES // matrices[0].nbytes)
    found = [
        solved(np.stack(matrices[start : start + at_once]), np.stack(rights[start : start + at_once]))
        for start in range(0, len(matrices), at_once)
    ]
    return np.concatenate(found).reshape(len(moments), len(shrinkages), *rights[0].shape)


def _present(moments: Moments) -> list[int]:
    return [int(k) for k in np.flatnonzero(moments.counts)]


def _scores(moments: Moments, weights: Reals) -> list[_Scores]:
    """Return the moments of the scores that weights (S, F, K) give to the pixels of classes: S of them."""
    means = product(moments.means, weights)
    within = np.zeros((*means.shape, means.shape[-1]))
    for k in _present(moments):
        turned = np.swapaxes(products(moments.covariances[k], weights), -1, -2)
        within[:, k] = product(turned, weights)
    within += means[..., :, np.newaxis] * means[..., np.newaxis, :]
    return [_Scores(moments.counts, *of_weights) for of_weights in zip(means, within, strict=True)]


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
    classes, points = logs.shape[:2]
    decided = np.zeros((classes, points), dtype=np.intp)
    best = logs[..., 0] + offsets[0]
    for k in range(1, classes):  # much faster than `argmax` over a short axis
        scores = logs[..., k] + offsets[k]
        decided[scores > best] = k
        best = np.maximum(best, scores)
    # The share of the points of each class (rows) that is decided as each class (columns).
    decided += classes * np.arange(classes)[:, np.newaxis]
    confusion = np.bincount(decided.ravel(), minlength=classes**2).reshape(classes, classes) / points
    confusion = confusion * shares[:, np.newaxis]
    hits = np.diagonal(confusion)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - hits
    some = shares > 0
    return round(float((hits[some] / union[some]).mean()), 6)
