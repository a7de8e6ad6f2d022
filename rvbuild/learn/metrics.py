"""Scores of a classification of pixels, from a confusion matrix that is counted batch by batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rvbuild.learn.selection import Score


class Confusion:
    """Counts pairs of classes.

    Parameters
    ----------
    names
        The classes; a class is its position here.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.matrix = np.zeros((len(self.names), len(self.names)), dtype=np.int64)
        """(K, K) int64: rows are the truth, columns the prediction."""

    def add(self, truth: np.ndarray, predicted: np.ndarray) -> None:
        """Count pixels.

        Parameters
        ----------
        truth
            Classes, any shape, integer; negative where a pixel does not count.
        predicted
            Classes, the same shape.
        """
        n = len(self.names)
        counted = truth >= 0
        codes = truth[counted].astype(np.int64) * n + predicted[counted]
        self.matrix += np.bincount(codes, minlength=n * n).reshape(n, n)

    def scores(self) -> dict[str, Score | Mapping[str, Score]]:
        """Return IoU and F1 of each class and their means over the classes that the truth has.

        IoU = TP / (TP + FP + FN), F1 = 2 TP / (2 TP + FP + FN). A class that neither the truth nor the prediction has,
        and a mean over no class, is None. An absent class that is predicted has IoU 0, and does not enter the means.
        """
        hits = np.diag(self.matrix)
        truths, predictions = self.matrix.sum(axis=1), self.matrix.sum(axis=0)
        unions = truths + predictions - hits
        iou = [float(h / u) if u else None for h, u in zip(hits, unions, strict=True)]
        f1 = [float(2 * h / (t + p)) if t + p else None for h, t, p in zip(hits, truths, predictions, strict=True)]
        present = np.flatnonzero(truths)
        return {
            "iou": dict(zip(self.names, iou, strict=True)),
            "f1": dict(zip(self.names, f1, strict=True)),
            "mean_iou": _mean([iou[k] for k in present]),
            "mean_f1": _mean([f1[k] for k in present]),
        }


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers else None
