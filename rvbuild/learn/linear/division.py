"""How scores of directions become log-probabilities, and where classes are divided.

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
from numpy.typing import NDArray

from rvbuild.learn.linear.algebra import product, solved
from rvbuild.learn.linear.moments import Reals

DRAWS, LEAST_DRAWS = 4096, 256
"""Points that stand for the scores of all classes, and of one of many classes at the least."""

COARSE = tuple(step / 2 for step in range(-6, 7))
FINE = (-0.375, -0.25, -0.125, 0.125, 0.25, 0.375)
"""What is tried to be added to the score of a class, in log-odds; then, to what was best."""

ROUNDS = 4
"""In which classes of pixels without labels are found."""

WORTH = 0.002
"""How much an offset has to raise the mean IoU for each unit of log-odds: where classes hardly meet, none is needed."""


class Scores(NamedTuple):
    """Means and covariances of the scores of classes."""

    counts: Reals
    means: Reals
    """(K, D)."""
    products: Reals
    """(K, D, D): means of products."""

    def among(self, present: NDArray[np.intp], classes: int) -> Scores:
        """Return those of all classes, of which these are present; a direction belongs to each."""
        counts, means, products = (np.zeros((classes,) * n) for n in (1, 2, 3))
        counts[present] = self.counts
        means[np.ix_(present, present)] = self.means
        products[np.ix_(present, present, present)] = self.products
        return Scores(counts, means, products)


class Division(NamedTuple):
    """How scores of directions become log-probabilities, and where classes are divided."""

    turned: Reals
    """(D, K)."""
    biases: Reals
    offsets: Reals
    shrinkage: float
    expected: float


def merged(parts: list[Scores]) -> Scores:
    """Return the moments of the scores of all parts."""
    counts = sum((part.counts for part in parts), np.zeros_like(parts[0].counts))
    some = np.maximum(counts, 1.0)
    means, products = np.zeros_like(parts[0].means), np.zeros_like(parts[0].products)
    for part in parts:
        share = part.counts / some
        means += share[:, np.newaxis] * part.means
        products += share[:, np.newaxis, np.newaxis] * part.products
    return Scores(counts, means, products)


def divided(scores: Scores, shrinkage: float) -> Division:
    """Return how scores become log-probabilities, given how they are distributed."""
    shares, covariances, turned, biases = _discriminants(scores)
    drawn = np.stack([_drawn(mean, covariance) for mean, covariance in zip(scores.means, covariances, strict=True)])
    logs = np.stack([product(points, turned) + biases for points in drawn])
    offsets, expected = _offsets(logs, shares)
    return Division(turned, biases, offsets, shrinkage, expected)


class _Discriminants(NamedTuple):
    """Linear discriminant analysis of scores."""

    shares: Reals
    """(K,) of all pixels."""
    covariances: Reals
    """(K, D, D)."""
    turned: Reals
    """(D, K)."""
    biases: Reals
    """(K,)."""


def _discriminants(scores: Scores) -> _Discriminants:
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
    return _Discriminants(shares, covariances, turned, biases)


def completed(scores: Scores, points: Reals, pixels: Reals) -> Scores:
    """Return the moments of the scores of labelled pixels, and of others by the classes that they probably have.

    Those who label choose where: their pixels are no sample of all. This is expectation maximisation with the
    directions as they are, from the labelled pixels, for some rounds.

    Parameters
    ----------
    scores
        Of labelled pixels.
    points
        (N, D): the scores of cells without labels.
    pixels
        (N,) that each stands for.
    """
    squares = (points[:, :, np.newaxis] * points[:, np.newaxis, :]).reshape(len(points), -1)
    powers = np.concatenate([np.ones((len(points), 1)), points, squares], axis=1)
    every = scores
    for _ in range(ROUNDS):
        _, _, turned, biases = _discriminants(every)
        chances = probabilities(product(points, turned) + biases) * pixels[:, np.newaxis]
        sums = product(chances.T.copy(), powers)
        counts = sums[:, 0]
        means = sums[:, 1:] / np.where(counts > 0, counts, 1.0)[:, np.newaxis]
        dimensions = points.shape[1]
        others = Scores(counts, means[:, :dimensions], means[:, dimensions:].reshape(-1, dimensions, dimensions))
        every = merged([scores, others])
    return every


def probabilities(logs: Reals) -> Reals:
    """Return probabilities (N, K), given their logarithms but for a constant; the same on every processor."""
    below = logs.max(axis=1, keepdims=True) - logs
    places = np.minimum(np.rint(below * _STEPS), len(_POWERS) - 1).astype(np.intp)
    powers = _POWERS[places]  # whole numbers: their sum does not depend on its order
    result: Reals = powers / powers.sum(axis=1, keepdims=True)
    return result


_STEPS = 64
"""Steps of a table of the exponential function, to a unit: processors compute it differently."""

_POWERS = np.array([*(float(round(2**40 * math.exp(-step / _STEPS))) for step in range(20 * _STEPS)), 0.0])


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
