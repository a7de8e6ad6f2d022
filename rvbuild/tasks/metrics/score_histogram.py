"""Histograms of the scores of right and of wrong predictions."""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

BINS = 20
"""Number of bins of equal width in [0, 1]."""


class ScoreHistogram(TypedDict):
    """Counts of predictions by score, `BINS` each."""

    right: list[int]
    wrong: list[int]


def score_histogram(scores: npt.NDArray[np.floating[Any]], right: npt.NDArray[np.bool_]) -> ScoreHistogram:
    """Return the histograms of scores in [0, 1], (N,), by whether the predictions are right, (N,)."""
    bins = np.clip((scores * BINS).astype(np.int64), 0, BINS - 1)
    return {
        "right": np.bincount(bins[right], minlength=BINS).tolist(),
        "wrong": np.bincount(bins[~right], minlength=BINS).tolist(),
    }


def added(one: ScoreHistogram, other: ScoreHistogram) -> ScoreHistogram:
    """Return the sum of two histograms."""
    return {
        "right": [a + b for a, b in zip(one["right"], other["right"], strict=True)],
        "wrong": [a + b for a, b in zip(one["wrong"], other["wrong"], strict=True)],
    }
