"""Selection of the best epoch, and early stopping: pure functions of the log."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rvbuild.errors import ModelError, nearest


def best_epoch(lines: Sequence[Mapping[str, Any]], metric: str) -> int:
    """Return the epoch (from 1) with the highest `metric`, the first of equals; 0 without any."""
    best, found = -math.inf, 0
    for line in lines:
        score = _score(line, metric)
        if found == 0 or score > best:
            best, found = score, int(line["epoch"])
    return found


def last_epoch(lines: Sequence[Mapping[str, Any]], epochs: int, patience: int, metric: str) -> int:
    """Return the epoch at which a training with this log ends: `epochs`, or the one that uses up `patience`.

    >>> scores = [{"epoch": e, "metrics": {"mean_iou": s}} for e, s in enumerate([0.1, 0.3, 0.2, 0.3], start=1)]
    >>> last_epoch(scores, 10, 2, "mean_iou")
    4
    """
    best, found = -math.inf, 0
    for count, line in enumerate(lines if patience else (), start=1):
        score = _score(line, metric)
        if found == 0 or score > best:
            best, found = score, count
        if count - found >= patience:
            return min(count, epochs)
    return epochs


def improves(line: Mapping[str, Any], before: Sequence[Mapping[str, Any]], metric: str) -> bool:
    """Return whether an epoch is better than all before it."""
    return best_epoch([*before, line], metric) == int(line["epoch"])


def _score(line: Mapping[str, Any], metric: str) -> float:
    metrics = line["metrics"] or {}
    if metrics and metric not in metrics:
        raise ModelError(f'train.select_metric: there is no metric "{metric}"{nearest(metric, metrics)}')
    score = metrics.get(metric)
    return -math.inf if score is None else float(score)
