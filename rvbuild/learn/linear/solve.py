"""A linear model of classes, solved from sums of features.

Directions are those of linear discriminant analysis: the inverse of the shrunken covariance within classes, times the
means of the classes. Ridge regression to one-hot targets spans the same directions. How much is shrunk, how large the
scores of the directions have to be to mean probabilities, and where the classes are divided, is decided on blocks that
a model has not seen: the model of a fold is solved from the total of the sums minus those of the fold, and the sums of
the fold say which mean and covariance its scores have there. No feature is read again, but for a sample of the cells
that have no label: the scores that these have count as well where classes are divided.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rvbuild.learn.encoders.encoder import Features
from rvbuild.learn.linear.algebra import product, products, solved, whole_product
from rvbuild.learn.linear.division import Division, Scores, completed, divided, merged
from rvbuild.learn.linear.moments import Integers, Moments, Reals, Unpacked, unpacked

STRONGEST, STRONG, WEAK = 0.5, 0.2, 0.002
"""The shrinkages that are tried."""

FEW_CELLS = 50
"""For each feature: with fewer, covariances are so uncertain that strong shrinkages alone are tried."""

TOGETHER_BYTES = 3 << 19
"""Of the matrices that are decomposed at the same time: they should fit into the cache of a processor."""

MOST_UNLABELLED = 8
"""Times as many pixels as are labelled: more count less, because what they are is a guess."""

SOME_CELLS, MANY_CELLS = 200, 1000
"""With labels, for each feature: from some on, cells without labels count less, and with many not at all."""


class Unlabelled(NamedTuple):
    """A sample of the cells that have pixels without labels."""

    features: Features
    """(N, F) int8."""
    pixels: Reals
    """(N,): how many pixels without labels each stands for, more than 0."""


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


def solve(sums: Integers, features: int, cell_pixels: int = 16, unlabelled: Unlabelled | None = None) -> Solution:
    """Return the model of the sums of some blocks.

    Parameters
    ----------
    sums
        (folds, K, size(F)) int64: the sums of each fold and class. At least one class has pixels.
    features
        F.
    cell_pixels
        The pixels of a cell: they have the same features.
    unlabelled
        Cells without labels, if some are known.
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
    of_all = np.zeros((len(shrinkages), features, sums.shape[1]))
    of_all[..., present] = weights[-1]
    others = _weighed(unlabelled, float(total.counts.sum()), cell_pixels) if len(present) > 1 else None
    points = None if others is None else _points(of_all, others.features)
    best: tuple[Division, Reals] | None = None
    parts = [_scores(moments, found) for moments, found in zip(held, weights, strict=False)]
    for number, shrinkage in enumerate(shrinkages):
        scores = merged([part[number] for part in parts]).among(present, sums.shape[1])
        if points is not None and others is not None:
            scores = completed(scores, points[number], others.pixels)
        candidate = divided(scores, shrinkage)
        if best is None or candidate.expected > best[0].expected:
            best = candidate, of_all[number]
    assert best is not None
    division, chosen = best
    return Solution(
        product(chosen, division.turned),
        division.biases,
        division.offsets,
        division.shrinkage,
        division.expected,
        len(used) if unseen else 0,
    )


def _points(weights: Reals, features: Features) -> Reals:
    """Return the scores (S, N, K) that weights (S, F, K) give to cells with features (N, F)."""
    several, _, classes = weights.shape
    found = whole_product(features, np.concatenate(list(weights), axis=1))
    return np.ascontiguousarray(np.swapaxes(found.reshape(-1, several, classes), 0, 1))


def _weighed(unlabelled: Unlabelled | None, labelled: float, cell_pixels: int) -> Unlabelled | None:
    """Return cells without labels with the pixels that each counts as, given how many are labelled; None if none do."""
    if unlabelled is None or not len(unlabelled.pixels):
        return None
    features, pixels = unlabelled
    many = MANY_CELLS - labelled / cell_pixels / features.shape[1]
    share = min(
        1.0, many / (MANY_CELLS - SOME_CELLS), MOST_UNLABELLED * labelled / float(np.add.accumulate(pixels)[-1])
    )
    return Unlabelled(features, pixels * share) if share > 0 else None


def _shrinkages(cells: float, features: int) -> list[float]:
    """Return what is tried, from the strongest: of equals, the first is taken. Few cells need strong shrinkage."""
    if cells <= FEW_CELLS * features:
        return [STRONGEST, STRONG]
    return [STRONG, max(WEAK, features / cells)]


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
        within = functools.reduce(np.add, map(np.multiply, shares, blocks.covariances))
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


def _scores(moments: Moments, weights: Reals) -> list[Scores]:
    """Return the moments of the scores that weights (S, F, K) give to the pixels of classes: S of them."""
    means = product(moments.means, weights)
    within = np.zeros((*means.shape, means.shape[-1]))
    for k in _present(moments):
        turned = np.swapaxes(products(moments.covariances[k], weights), -1, -2)
        within[:, k] = product(turned, weights)
    within += means[..., :, np.newaxis] * means[..., np.newaxis, :]
    return [Scores(moments.counts, *of_weights) for of_weights in zip(means, within, strict=True)]
