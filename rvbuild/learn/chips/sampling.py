"""How often each training chip is drawn, from the classes in it.

The share of a class in a chip is its part of all that is labelled there: pixels, boxes, or the chip's one class. A chip
is drawn in proportion to the sum of its shares, each times the weight of its class. Balanced, the weight of a class is
the inverse of its shares in all chips, so that every class is drawn alike, as far as classes do not come together. A
chip without any class, background or unlabelled, has the chance of a chip in an order without weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def chances(counts: np.ndarray, names: Sequence[str], null_id: int, sampling: str | Mapping[str, float]) -> np.ndarray:
    """Return the probability with which each chip is drawn, each time.

    Parameters
    ----------
    counts
        `(N, n_classes)` how often each class id occurs in each chip.
    names
        Of the classes, in id order.
    null_id
        Not a class: it is neither trained nor counted.
    sampling
        `"balanced"`, or weights of classes by name; those that are not named weigh 1.

    Returns
    -------
    ndarray
        `(N,)` float64; they sum to 1.
    """
    known = np.delete(counts, null_id, axis=1).astype(np.float64)
    total = known.sum(axis=1, keepdims=True)
    labelled = total[:, 0] > 0
    share = np.divide(known, total, out=np.zeros_like(known), where=total > 0)
    if isinstance(sampling, str):
        of_class = share.sum(axis=0)
        weight = np.divide(1.0, of_class, out=np.zeros_like(of_class), where=of_class > 0)
    else:
        weight = np.array([sampling.get(name, 1.0) for number, name in enumerate(names) if number != null_id])
    by_chip = share @ weight
    mean = by_chip[labelled].mean() if labelled.any() else 0.0
    # Relative to the mean, so that chips without a class keep their share.
    by_chip = np.where(labelled, by_chip / mean if mean > 0 else 1.0, 1.0)
    return np.asarray(by_chip / by_chip.sum())
