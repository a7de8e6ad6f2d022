"""The log of a training, and what follows from it: the best epoch, and early stopping."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NotRequired, TypeAlias

from typing_extensions import TypedDict

from rvbuild.errors import ModelError, nearest

Score: TypeAlias = float | None
Scores: TypeAlias = Mapping[str, Score | Mapping[str, Score]]
"""Metrics by name: a number, or one for each class; None where it is not known."""


class Epoch(TypedDict):
    """A line of `log.jsonl`."""

    epoch: int
    """From 1."""
    lr: float
    """Of the last step."""
    train_loss: float
    val_loss: float | None
    metrics: Scores | None
    train_losses: NotRequired[dict[str, float]]
    """The parts of the loss, if it has some."""
    val_losses: NotRequired[dict[str, float]]


def best_epoch(log: Sequence[Epoch], metric: str) -> int:
    """Return the epoch (from 1) with the highest `metric`, the first of equals; 0 without any."""
    best, best_score = 0, -math.inf
    for epoch in log:
        score = _score(epoch, metric)
        if best == 0 or score > best_score:
            best, best_score = epoch["epoch"], score
    return best


def last_epoch(log: Sequence[Epoch], epochs: int, patience: int, metric: str) -> int:
    """Return the epoch at which a training with this log ends: `epochs`, or the one that uses up `patience`.

    >>> scores = [{"epoch": e, "metrics": {"mean_iou": s}} for e, s in enumerate([0.1, 0.3, 0.2, 0.3], start=1)]
    >>> last_epoch(scores, 10, 2, "mean_iou")
    4
    """
    best, best_score = 0, -math.inf
    for count, epoch in enumerate(log if patience else (), start=1):
        score = _score(epoch, metric)
        if best == 0 or score > best_score:
            best, best_score = count, score
        if count - best >= patience:
            return min(count, epochs)
    return epochs


def improves(epoch: Epoch, before: Sequence[Epoch], metric: str) -> bool:
    """Return whether an epoch is better than all before it."""
    return best_epoch([*before, epoch], metric) == epoch["epoch"]


def _score(epoch: Epoch, metric: str) -> float:
    metrics = epoch["metrics"] or {}
    if metrics and metric not in metrics:
        raise ModelError(f'train.select_metric: there is no metric "{metric}"{nearest(metric, metrics)}')
    score = metrics.get(metric)
    if score is None:
        return -math.inf
    if not isinstance(score, int | float):
        raise ModelError(f'train.select_metric: "{metric}" is not one number, but one for each class')
    return float(score)
