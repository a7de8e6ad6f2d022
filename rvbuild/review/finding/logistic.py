"""Multinomial logistic regression by Newton's method, by operations on elements: a function of its arguments alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rvbuild.learn.linear.algebra import solved
from rvbuild.learn.linear.moments import Reals

STEPS = 30
LARGEST_STEP = 2.0


class Logistic(NamedTuple):
    """A model of probabilities."""

    centre: Reals
    """(F,) subtracted from features; also what unknown features are taken to be."""
    spread: Reals
    """(F,)."""
    weights: Reals
    """(K, F + 1), the last of a constant."""

    def log_odds(self, features: Reals) -> Reals:
        """Return the log-odds (N, K) of each outcome against outcome 0, of features (N, F), nan where unknown."""
        return _scores(_with_constant(features, self.centre, self.spread), self.weights)


def fit(features: Reals, outcomes: np.ndarray, weights: Reals, penalties: Reals | float = 1.0) -> Logistic:
    """Return the model of the probabilities of outcomes 0 to K.

    Parameters
    ----------
    features
        (N, F), nan where unknown.
    outcomes
        (N,) from 0 to K.
    weights
        (N,) how much each example counts.
    penalties
        On the squares of weights, (K, F), (F,) or of all: as of a normal distribution with a variance of 1 / penalty.
    """
    count = int(outcomes.max())
    known = np.isfinite(features)
    each = known * weights[:, np.newaxis]
    sums = np.maximum(each.sum(axis=0), 1e-9)
    centre = (np.where(known, features, 0.0) * each).sum(axis=0) / sums
    spread = np.sqrt((np.where(known, features - centre, 0.0) ** 2 * each).sum(axis=0) / sums)
    spread = np.where(spread > 1e-9, spread, 1.0)
    x = _with_constant(features, centre, spread)
    size = x.shape[1]
    w = np.zeros((count, size))
    ridge = np.full((count, size), 1e-6)
    ridge[:, :-1] = penalties
    for _ in range(STEPS):
        p = _probabilities(_scores(x, w))
        residuals = np.stack([(p[:, k] - (outcomes == k + 1)) * weights for k in range(count)])
        gradient = np.stack([(x * r[:, np.newaxis]).sum(axis=0) for r in residuals]) + ridge * w
        hessian = np.zeros((count, size, count, size))
        for k in range(count):
            for other in range(k + 1):
                curvature = p[:, k] * ((k == other) - p[:, other]) * weights
                part = np.stack([(x * (curvature * column)[:, np.newaxis]).sum(axis=0) for column in x.T])
                hessian[k, :, other], hessian[other, :, k] = part, part.T
            hessian[k, range(size), k, range(size)] += ridge[k] + 1e-6
        flat = hessian.reshape(count * size, count * size)
        step = solved(flat, gradient.reshape(-1, 1)).reshape(count, size)
        largest = float(np.abs(step).max())
        w = w - step * min(1.0, LARGEST_STEP / max(largest, 1e-12))
        if largest < 1e-6:
            break
    return Logistic(centre, spread, w)


def _with_constant(features: Reals, centre: Reals, spread: Reals) -> Reals:
    scaled = np.where(np.isfinite(features), np.clip((features - centre) / spread, -6, 6), 0.0)
    return np.concatenate([scaled, np.ones((len(features), 1))], axis=1)


def _scores(x: Reals, weights: Reals) -> Reals:
    return np.stack([(x * row).sum(axis=1) for row in weights], axis=1)


def _probabilities(scores: Reals) -> Reals:
    """Return the probabilities (N, K) of outcomes 1 to K."""
    top = np.maximum(scores.max(axis=1, keepdims=True), 0.0)
    powers = np.exp(scores - top)
    result: Reals = powers / (powers.sum(axis=1, keepdims=True) + np.exp(-top))
    return result
